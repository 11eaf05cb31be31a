//! Time zones: the zone of a name, the zone of the machine, and the zones in force.
//!
//! | file | contents |
//! |---|---|
//! | `database.rs` | [`named`]: the zone of a name, from the machine's database or the compiled one |
//! | `local.rs` | [`local`]: the zone of the machine, from `TZ` or `/etc/localtime` |
//! | `in_force.rs` | [`Zone`], [`Origin`]; [`Zones`]: the zones of the configuration, else the machine's |
//! | `shown.rs` | local times in words, with the offset where clocks show a time twice |
//!
//! No other module resolves a time zone.

mod database;
mod in_force;
mod local;
mod shown;

pub use database::named;
pub use in_force::{Origin, Zone, Zones};
pub use local::local;
pub use shown::{minute, offset_if_twice, second};
