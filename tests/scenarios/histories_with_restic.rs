//! Random histories of a repository: at any moment at which nobody writes, stock restic finds
//! nothing to complain.

use std::fs;

use crate::support::history::{History, World};
use crate::support::long::long;
use crate::support::restic::{RESTICS, Restic};

mod needs_restic {
    use super::*;

    fn look_with_restic(world: &World) {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["data", "index", "keys", "locks", "snapshots"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        for (key, bytes) in world.sink.objects() {
            let path = dir.path().join(key.as_str());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        for version in RESTICS {
            let restic = Restic::new(version, dir.path(), world.repo.passphrase.reveal());
            let checked = restic.run(&["check", "--read-data", "--no-lock"]);
            assert!(
                checked.text().contains("no errors were found"),
                "{}: {version}: {checked}",
                world.at
            );
        }
    }

    #[tokio::test]
    async fn any_history_is_sound_for_restic() {
        let mut history = History::begin().await;
        for _ in 0..if long() { 50 } else { 3 } {
            history.go_on(60).await;
            look_with_restic(&history.world);
        }
        history.world.everything_can_go().await;
        look_with_restic(&history.world);
    }
}
