//! Long random histories of a repository beside a naive model of it.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`History`]: its seed, one step after the other |
//! | `world.rs` | the model, and the repository beside it |
//! | `claims.rs` | what must be true whatever has happened |
//! | `steps.rs` | what can happen |
//! | `crashes.rs` | what can happen and be killed while it happens |
//! | `beside.rs` | backups, restores and prunes that take their time while everything else goes on |

mod beside;
mod claims;
mod crashes;
mod steps;
mod world;

use rand::RngExt;
pub(crate) use world::World;

/// A history that is told by its seed.
pub(crate) struct History {
    pub(crate) world: World,
    seed: u64,
    steps: usize,
}

impl History {
    /// A new one, or that of `BACKUP_TEST_SEED`.
    pub(crate) async fn begin() -> Self {
        let given = std::env::var("BACKUP_TEST_SEED").ok();
        let given = given.map(|text| {
            text.parse().unwrap_or_else(|_| panic!("BACKUP_TEST_SEED={text:?} is no number"))
        });
        Self::with_seed(given.unwrap_or_else(|| rand::rng().random())).await
    }

    async fn with_seed(seed: u64) -> Self {
        Self { world: World::new(seed).await, seed, steps: 0 }
    }

    /// So many steps, with a restore after each; then a look at everything.
    pub(crate) async fn go_on(&mut self, steps: usize) {
        let world = &mut self.world;
        for _ in 0..steps {
            self.steps += 1;
            world.at = format!("BACKUP_TEST_SEED={}, step {}", self.seed, self.steps);
            world.step().await;
            world.restore_one().await;
        }
        world.finish_all().await;
        world.look_at_everything().await;
    }
}
