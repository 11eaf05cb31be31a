//! Damaged and missing snapshots never silently give way to older ones, and findings of damage are
//! remembered.

use std::path::Path;

use crate::common::{Env, Run, docs_config};

const CONFIG: &str = docs_config!(
    r#"keep = { last = 1 }
"#
);

/// Two snapshots of the job `docs`; the newer one is then damaged or deleted behind the program's
/// back. Returns the older and the newer identifier.
fn with_unavailable(is_missing: bool) -> (Env, String, String) {
    let env = Env::configured(CONFIG);
    env.run(&["init", "-q", "-r", "other", "--like", "repo"]).ok();
    env.run(&["run", "-q", "docs"]).ok();
    let older = env.latest();
    env.write("data/letter.txt", "A later letter\n");
    env.run(&["run", "-q", "docs"]).ok();
    let newer = env.latest();
    let object = env.path("repo/snapshots").join(&newer);
    match is_missing {
        true => std::fs::remove_file(object).unwrap(),
        false => std::fs::write(object, "damaged").unwrap(),
    }
    (env, older, newer)
}

fn stored(env: &Env) -> usize {
    std::fs::read_dir(env.path("repo/snapshots")).unwrap().count()
}

fn refuses(run: &Run, newer: &str) {
    assert_eq!(run.code, 4, "{}", run.text());
    assert!(run.stderr.contains(&newer[..8]), "names the snapshot: {}", run.text());
    assert!(run.stderr.contains("repair"), "has a hint: {}", run.text());
}

#[test]
fn latest_never_means_an_older_snapshot_silently() {
    for is_missing in [false, true] {
        let (env, older, newer) = with_unavailable(is_missing);
        let reading: [&[&str]; 9] = [
            &["show", "latest"],
            &["ls", "latest"],
            &["verify", "latest"],
            &["export", "latest", "-o", "out.tar"],
            &["restore", "latest", "--target", "out"],
            &["restore", "today", "--target", "out"],
            &["diff", &older, "latest"],
            &["find", "--snapshot", "latest", "letter.txt"],
            &["copy", "latest", "--to", "other"],
        ];
        for args in reading {
            refuses(&env.run(args), &newer);
        }
        assert!(!env.path("out").exists() && !env.path("out.tar").exists());
        for args in reading {
            let skipped = env.run(&[args, &["--skip-damaged"]].concat());
            // `find` also lists damaged snapshots, as `list` does.
            let code = if args[0] == "find" && !is_missing { 4 } else { 0 };
            assert_eq!(skipped.code, code, "{args:?}: {}", skipped.text());
            assert!(skipped.stderr.contains(&newer[..8]), "{args:?}: {}", skipped.text());
            if args[0] == "restore" {
                std::fs::remove_dir_all(env.path("out")).unwrap();
            }
        }
        let before = stored(&env);
        let removing: [&[&str]; 5] = [
            &["forget", "latest", "--yes"],
            &["hold", "latest", "--reason", "audit"],
            &["cleanup", "--all", "--yes"],
            &["cleanup", "--all", "--dry-run"],
            &["archive", "--older-than", "0s", "--to", "other", "--remove", "--yes"],
        ];
        for args in removing {
            refuses(&env.run(args), &newer);
        }
        assert_eq!(stored(&env), before);
        // By its identifier, the older one can be named.
        env.run(&["verify", "-q", &older]).ok();
    }
}

#[test]
fn an_accepted_loss_is_no_longer_missed() {
    for is_missing in [false, true] {
        let (env, older, newer) = with_unavailable(is_missing);
        assert_eq!(env.run(&["repair", "--accept-loss", &older, "--yes"]).code, 2);
        assert_eq!(env.run(&["repair", "--accept-loss", "ffff", "--yes"]).code, 2);
        assert_eq!(env.run(&["repair", "--accept-loss", &newer[..8]]).code, 5);
        env.run(&["repair", "--accept-loss", &newer[..8], "--dry-run"]).ok();
        refuses(&env.run(&["show", "latest"]), &newer);
        let done = env.run(&["repair", "--accept-loss", &newer[..8], "--yes", "--json"]).ok();
        assert_eq!(done.json()["given_up"], serde_json::json!([newer]));
        assert_eq!(env.run(&["show", "latest", "--json"]).ok().json()["snapshot"]["id"], older);
        env.run(&["check", "-q", "--read-data"]).ok();
        assert_eq!(env.path("repo/x-quarantine/snapshots").exists(), !is_missing);
    }
}

#[test]
fn a_forgotten_snapshot_is_not_missed() {
    let env = Env::configured(CONFIG);
    env.run(&["run", "-q", "docs"]).ok();
    let older = env.latest();
    env.run(&["run", "-q", "docs"]).ok();
    env.run(&["forget", "latest", "--yes"]).ok();
    assert_eq!(env.run(&["show", "latest", "--json"]).ok().json()["snapshot"]["id"], older);
}

/// Overwrites some bytes in the middle of a pack.
fn damage(pack: &Path) {
    let mut bytes = std::fs::read(pack).unwrap();
    let at = bytes.len() / 2;
    bytes[at..at + 16].iter_mut().for_each(|byte| *byte ^= 0xff);
    std::fs::write(pack, bytes).unwrap();
}

#[test]
fn status_shows_the_newest_evidence() {
    let env = Env::configured(CONFIG);
    env.write("data/big.bin", &(0..40_000).map(|at| format!("{at} ")).collect::<String>());
    env.run(&["run", "-q", "docs"]).ok();
    let id = env.latest();
    env.run(&["verify", "-q", "latest"]).ok();
    assert!(!env.run(&["status"]).ok().stdout.contains("damaged"));

    let pack = env.largest_pack();
    let intact = std::fs::read(&pack).unwrap();
    damage(&pack);
    for verb in [&["verify", "latest"][..], &["check", "--read-data"]] {
        assert_eq!(env.run(&[verb, &["-q"]].concat()).code, 4);
        let status = env.run(&["status"]);
        assert_eq!(status.code, 4, "{}", status.text());
        let found = format!("`{}` found at", verb[0]);
        assert!(status.stdout.contains(&found), "{}", status.text());
        let json = env.run(&["status", "--json"]).json();
        let success = &json["jobs"][0]["last_success"];
        assert_eq!(
            (&success["snapshot"], &success["damage"]["by"]),
            (&id.as_str().into(), &verb[0].into())
        );
        // A check that reads no data cannot disprove it.
        env.run(&["check", "-q"]).ok();
        assert_eq!(env.run(&["status", "-q"]).code, 4);

        std::fs::write(&pack, &intact).unwrap();
        env.run(&[verb, &["-q"]].concat()).ok();
        assert!(!env.run(&["status"]).ok().stdout.contains("damaged"), "{verb:?}");
        damage(&pack);
    }
}

#[test]
fn a_part_of_a_job_never_stands_for_the_job() {
    let env = Env::configured(&CONFIG.replace("keep =", "include = [\"/**/data\"]\nkeep ="));
    env.run(&["run", "-q", "docs"]).ok();
    let whole = env.latest();
    // A glob of the flags narrows the job, and never widens it.
    env.write("elsewhere/secret.txt", "not part of the job");
    let data = env.path("data");
    let letter = data.join("letter.txt");
    let part = env.run(&["run", "docs", "--only", "*.txt"]);
    assert_eq!(part.code, 2, "cannot be decided below `/**/data`: {}", part.text());
    assert!(part.stderr.contains("cannot determine"), "{}", part.text());

    env.write("backup.toml", &CONFIG.replace("keep =", &format!("include = [{data:?}]\nkeep =")));
    let outside = env.run(&["run", "docs", "--only", env.path("elsewhere").to_str().unwrap()]);
    assert_eq!(outside.code, 2, "{}", outside.text());
    assert!(outside.stderr.contains("has nothing of"), "{}", outside.text());
    env.run(&["run", "-q", "docs", "--only", letter.to_str().unwrap()]).ok();
    let part = env.latest();
    assert_ne!(part, whole);
    let listed = env.run(&["ls", &part, "--recursive"]).ok().stdout;
    assert!(listed.contains("letter.txt") && !listed.contains("photo"), "{listed}");

    let shown = env.run(&["show", "latest"]).ok();
    assert!(shown.stdout.contains(&whole) && shown.stderr.contains(&part[..8]), "{}", shown.text());
    assert!(env.run(&["list"]).ok().stdout.contains("part"));
    let status = env.run(&["status", "--json"]).ok().json();
    assert_eq!(status["jobs"][0]["last_success"]["snapshot"], whole);
    // The newest of each selection stays under any policy.
    env.run(&["cleanup", "--all", "--yes", "-q"]).ok();
    env.run(&["show", &whole]).ok();
    env.run(&["show", &part]).ok();
    // The next run of the job compares with the whole one, and reads nothing again.
    let run = env.run(&["run", "docs"]).ok();
    assert!(run.stdout.contains(&format!("compared with {}", &whole[..8])), "{}", run.text());
    env.run(&["cleanup", "--all", "--yes", "-q"]).ok();
    assert_eq!(env.run(&["show", &whole]).code, 1, "the newer whole one took its place");
    env.run(&["show", &part]).ok();
}
