//! The policies in `docs/policies`: each role can do what it is for, and nothing else.

/// A policy of the documentation, for this bucket and prefix.
fn policy(role: &str) -> String {
    let file = format!("{}/../docs/policies/s3-{role}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
    text.replace("BUCKET", crate::support::store::BUCKET).replace("PREFIX", "repo")
}

mod needs_moto_server {
    use std::path::Path;

    use http::Method;

    use super::policy;
    use crate::support::cli::Cli;
    use crate::support::compare::assert_same;
    use crate::support::repo::restored;
    use crate::support::restic::text;
    use crate::support::servers::moto::Moto;
    use crate::support::servers::s3::S3;
    use crate::support::store::{BUCKET, Store};
    use crate::support::tree::{everything, write};

    const PASSWORD: &str = "password";
    /// Objects by which maintainers protect snapshots.
    const PROTECTED: [&str; 11] = [
        "config",
        "keys/00",
        "x-adopted/00",
        "x-compliance/00",
        "x-damage/00",
        "x-forgotten/00",
        "x-holds/00",
        "x-proofs/00",
        "x-prune/00",
        "x-quarantine/snapshots/00",
        "x-receipts/config",
    ];

    fn cli(user: &S3) -> Cli {
        Store::s3(user, "repo").cli(PASSWORD)
    }

    /// How many packs there are, as the owner sees them.
    fn packs(owner: &Cli) -> u64 {
        let stats = owner.run(&["stats", "--json"]).succeeded();
        let stats: serde_json::Value = serde_json::from_str(&stats.text()).unwrap();
        stats["packs"].as_u64().unwrap()
    }

    fn denied(user: &S3, method: &Method, key: &str) {
        let answer = user.send(method.clone(), &format!("/{BUCKET}/{key}"), &[], b"");
        assert_eq!(answer.status, 403, "{method} {key}: {}", answer.text());
    }

    #[test]
    fn each_can_do_what_it_is_for_and_nothing_else() {
        let (moto, room) = (Moto::start(), tempfile::tempdir().unwrap());
        moto.s3.create_bucket(BUCKET, false);
        let [writer, maintainer, auditor] =
            ["writer", "maintainer", "auditor"].map(|role| moto.user(role, &policy(role)));
        moto.enforce();
        let source = room.path().join("source");
        everything(&source);
        let owner = cli(&maintainer);
        owner.run(&["init"]).succeeded();

        // The writer backs up, again and again, and stores nothing twice.
        let machine = cli(&writer);
        machine.run(&["run", "--source", text(&source)]).succeeded();
        let before = packs(&owner);
        write(source.join("new"), "new");
        let second = machine.summary(&["run", "--source", text(&source)]);
        let stored = "the new file, the manifest, and the record of skipped entries";
        assert_eq!(second["stored"]["data_blobs"], 3, "{stored}: {second}");
        assert!(packs(&owner) > before);
        machine.run(&["list"]).succeeded();

        // A thief of its key can neither read what was backed up nor destroy it.
        let pack = first_pack(&maintainer);
        denied(&writer, &Method::GET, &pack);
        denied(&writer, &Method::DELETE, &pack);
        denied(&writer, &Method::DELETE, "repo/config");
        for key in PROTECTED {
            denied(&writer, &Method::PUT, &format!("repo/{key}"));
        }
        let refused =
            machine.run(&["restore", "latest", "--target", text(&room.path().join("stolen"))]);
        assert!(refused.code == 1 && refused.stderr.contains("refuses access"), "{refused}");

        // The auditor proves and restores, and changes nothing.
        let audit = cli(&auditor);
        audit.run(&["check", "--read-data"]).succeeded();
        let target = room.path().join("restored");
        audit.run(&["restore", "latest", "--target", text(&target)]).succeeded();
        same(&source, &target);
        denied(&auditor, &Method::PUT, "repo/config");
        denied(&auditor, &Method::DELETE, "repo/config");
        let refused = audit.run(&["run", "--source", text(&source)]);
        assert!(refused.code == 1 && refused.stderr.contains("refuses access"), "{refused}");

        // The maintainer removes, and examines the store.
        owner.run(&["doctor"]).succeeded();
    }

    fn same(source: &Path, target: &Path) {
        assert_same(source, &restored(target, source));
    }

    fn first_pack(user: &S3) -> String {
        let listing = user
            .send(Method::GET, &format!("/{BUCKET}?list-type=2&prefix=repo%2Fdata%2F"), &[], b"")
            .succeeded();
        listing.text().split("<Key>").nth(1).unwrap().split('<').next().unwrap().to_owned()
    }
}
