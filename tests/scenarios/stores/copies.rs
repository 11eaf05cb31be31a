//! Copies from store to store: the same snapshots everywhere, and the second time nothing to do.

use std::sync::Arc;

use backup_core::id::BlobId;
use backup_core::sink::Sink;

use crate::support::cli::Cli;
use crate::support::gcs_double::GcsDouble;
use crate::support::repo::{Repo, local};
use crate::support::store::{BUCKET, Store};

const PASSWORD: &str = "password";

/// Trees of all snapshots, in order.
async fn trees(sink: Arc<dyn Sink>) -> Vec<BlobId> {
    let repo = Repo::open(sink, PASSWORD).await.unwrap();
    repo.snapshots().await.iter().map(|info| info.snapshot.tree).collect()
}

mod needs_weed {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::support::compare::assert_same;
    use crate::support::noise::noise;
    use crate::support::repo::restored;
    use crate::support::restic::text;
    use crate::support::servers::weed::SeaweedFs;
    use crate::support::tree::{everything, write};

    #[tokio::test(flavor = "multi_thread")]
    async fn from_a_directory_through_two_stores_and_back() {
        let (weed, double, room) =
            (SeaweedFs::start(), GcsDouble::start(), tempfile::tempdir().unwrap());
        weed.s3.create_bucket(BUCKET, false);
        double.create_bucket(BUCKET);
        let s3 = Store::s3(&weed.s3, "copies");
        let gcs = Store::gcs(&double, &double.endpoint(), "copies", room.path());
        let (first, last) = (room.path().join("first"), room.path().join("last"));
        let places = [text(&first), &s3.address, &gcs.address, text(&last)];
        let environment: BTreeMap<_, _> =
            s3.environment.iter().chain(&gcs.environment).map(owned).collect();
        let at = |place: &str| Cli::remote(place, PASSWORD, environment.clone());

        let source = room.path().join("source");
        everything(&source);
        at(places[0]).run(&["init"]).succeeded();
        at(places[0]).run(&["run", "--source", text(&source)]).succeeded();
        write(source.join("more"), noise(1, 5_000_000));
        at(places[0]).run(&["run", "--source", text(&source)]).succeeded();
        let expected = trees(local(&first)).await;
        assert_eq!(expected.len(), 2);

        for pair in places.windows(2) {
            at(pair[1]).run(&["init", "--like", pair[0]]).succeeded();
            let copied = at(pair[0]).summary(&["copy", "--all", "--to", pair[1]]);
            assert_eq!(copied["copied"].as_array().unwrap().len(), 2, "{copied}");
        }
        for sink in [s3.sink().await, gcs.sink().await, local(&last)] {
            assert_eq!(trees(sink.clone()).await, expected, "{sink}");
        }
        for place in places {
            at(place).check();
            assert_restores(&at(place), &source);
        }
        for pair in places.windows(2) {
            let again = at(pair[0]).summary(&["copy", "--all", "--to", pair[1]]);
            assert_eq!(again["copied"].as_array().unwrap().len(), 0, "{again}");
            assert_eq!((&again["bytes"], &again["blobs"]), (&0.into(), &0.into()), "{again}");
        }
        // Only the manifest and the record of skipped entries are new: all cut contents alike.
        let direct = at(places[2]).summary(&["run", "--source", text(&source)]);
        assert!(direct["stored"]["data_blobs"].as_u64().unwrap() <= 2, "{direct}");
    }

    fn owned((name, value): (&String, &String)) -> (String, String) {
        (name.clone(), value.clone())
    }

    fn assert_restores(cli: &Cli, source: &Path) {
        let target = tempfile::tempdir().unwrap();
        cli.run(&["restore", "latest", "--target", text(target.path())]).succeeded();
        assert_same(source, &restored(target.path(), source));
    }
}
