//! restore and export.

use std::path::Path;

use crate::common::Env;

fn backed_up() -> Env {
    let env = Env::with_repository();
    env.write_tree();
    env.run(&["run", "-q", "--source", "data"]).ok();
    env
}

fn below(env: &Env, target: &str, relative: &str) -> std::path::PathBuf {
    env.path(target).join(env.path(relative).strip_prefix("/").unwrap())
}

#[test]
fn restores_to_a_new_place() {
    let env = backed_up();
    env.run(&["restore", "latest", "--target", "out", "--verify"]).ok().snapshot("restore");
    assert_eq!(
        std::fs::read_to_string(below(&env, "out", "data/letter.txt")).unwrap(),
        "Dear reader\n"
    );
    env.run(&["restore", "latest", "--target", "out"]).snapshot("restore_target_exists");
    env.run(&["restore", "latest", "--target", "out2", "--json", "--sparse"])
        .ok()
        .snapshot_json("restore_json");
}

/// Whether it would succeed, without a change.
#[test]
fn a_restore_is_checked() {
    let env = backed_up();
    let run = env.run(&["restore", "latest", "--target", "out", "--check"]).ok();
    assert!(
        run.stdout.contains("Plan: restore snapshot") && !env.path("out").exists(),
        "{}",
        run.text()
    );
    let before = env.run(&["audit", "--json"]).ok().stdout;
    env.write("out/there", "x");
    assert_eq!(env.run(&["restore", "latest", "--target", "out", "--check"]).code, 5);
    assert_eq!(env.run(&["audit", "--json"]).ok().stdout, before);
    env.run(&["restore"]).snapshot("restore_of_nothing");
}

#[test]
fn restores_a_part() {
    let env = backed_up();
    env.run(&["restore", "latest", "--target", "out", "--only", "*.jpg", "--exclude", "sky*"]).ok();
    assert!(below(&env, "out", "data/photos/sea.jpg").exists());
    assert!(!below(&env, "out", "data/photos/sky.jpg").exists());
    assert!(!below(&env, "out", "data/letter.txt").exists());
    env.run(&["restore", "latest", "--target", "out", "--only", "a["]).snapshot("restore_glob");
}

/// A misspelt pattern must not look like a restore.
#[test]
fn a_selection_of_nothing_is_an_error() {
    let env = backed_up();
    env.run(&["restore", "latest", "--target", "out", "--only", "nosuch"])
        .snapshot("restore_only_nosuch");
    for more in [
        &["--exclude", "*"][..],
        &["--only", "nosuch", "--dry-run"],
        &["--only", "nosuch", "--thaw", "--json"],
    ] {
        let run = env.run(&[&["restore", "latest", "--target", "out"], more].concat());
        assert_eq!(run.code, 1, "{}", run.text());
    }
    assert!(!env.path("out").exists());
}

#[test]
fn flags_of_databases_mean_nothing_to_files() {
    let env = backed_up();
    let restore = ["restore", "latest", "--target"];
    env.run(&[&restore[..], &["mongodb://me:hush@db/"]].concat())
        .snapshot("restore_files_to_a_server");
    env.run(&[&restore[..], &["out", "--rename", "a.*=b.*"]].concat())
        .snapshot("restore_files_renamed");
    env.run(&["export", "latest", "--to", "out"]).snapshot("export_files_to_a_directory");
    assert_eq!(env.run(&["export", "latest", "--only", "a.*"]).code, 2);
    assert!(!env.path("out").exists());
}

/// Before a store is asked, and paid, to thaw anything.
#[test]
fn the_target_is_looked_at_before_anything_is_thawed() {
    let env = backed_up();
    env.write("out/there", "x");
    let thaw = ["restore", "latest", "--thaw", "--target"];
    assert_eq!(env.run(&[&thaw[..], &["out"]].concat()).code, 5);
    let run = env.run(&[&thaw[..], &["out/there/below"]].concat());
    assert_eq!(run.code, 1, "{}", run.text());
    assert!(run.stderr.contains("cannot write to out/there/below"), "{}", run.text());
}

#[test]
fn replacing_needs_a_confirmation() {
    let env = backed_up();
    env.run(&["restore", "latest", "--target", "out"]).ok();
    std::fs::write(below(&env, "out", "data/letter.txt"), "scribbled").unwrap();
    std::fs::write(below(&env, "out", "data/extra"), "extra").unwrap();
    let replace = ["restore", "latest", "--target", "out", "--if-exists", "replace"];
    env.run(&replace).snapshot("restore_refused");
    env.run_fed(&replace, "y\n").snapshot("restore_refused");
    env.run(&[&replace[..], &["--json"]].concat()).snapshot_json("restore_refused_json");
    env.run(&[&replace[..], &["--dry-run"]].concat()).ok().snapshot("restore_plan");
    assert_eq!(
        std::fs::read_to_string(below(&env, "out", "data/letter.txt")).unwrap(),
        "scribbled"
    );

    env.run(&["restore", "latest", "--target", "out", "--if-exists", "merge", "-y"])
        .ok()
        .snapshot("restore_merge");
    assert!(below(&env, "out", "data/extra").exists());
    env.run(&[&replace[..], &["--yes"]].concat()).ok().snapshot("restore_replace");
    assert!(below(&env, "out", "data/extra").exists());
    let delete = [&replace[..], &["--delete"]].concat();
    let events = env.run(&[&delete[..], &["--dry-run", "--json"]].concat()).ok().events();
    let plan = events.last().unwrap();
    let extra = below(&env, "out", "data/extra");
    assert_eq!(plan["removals"][0]["name"], extra.to_str().unwrap(), "{plan}");
    assert_eq!((&plan["removed"], &plan["snapshot_job"]), (&1.into(), &"manual".into()), "{plan}");
    env.run(&[&delete[..], &["--yes"]].concat()).ok().snapshot("restore_replace_delete");
    assert!(!extra.exists());
    assert_eq!(
        std::fs::read_to_string(below(&env, "out", "data/letter.txt")).unwrap(),
        "Dear reader\n"
    );
}

#[test]
fn restores_in_place() {
    let env = backed_up();
    std::fs::remove_file(env.path("data/letter.txt")).unwrap();
    env.write("data/later", "later");
    env.run(&["restore", "latest", "--in-place", "--yes"]).snapshot("restore_in_place_exists");
    env.run(&["restore", "latest", "--in-place", "--if-exists", "merge"])
        .snapshot("restore_in_place_refused");
    assert!(!env.path("data/letter.txt").exists());
    env.run(&["restore", "latest", "--in-place", "--if-exists", "merge", "--yes"]).ok();
    assert_eq!(std::fs::read_to_string(env.path("data/letter.txt")).unwrap(), "Dear reader\n");
    assert!(env.path("data/later").exists());
}

/// By choice and because it could not be backed up: three flags, each with its own part.
#[test]
fn restore_in_place_removes_entries_by_flag() {
    let env = Env::with_repository();
    env.write_tree();
    env.write("data/left.tmp", "t");
    env.run(&["run", "-q", "--source", "data", "--exclude", "*.tmp"]).ok();
    env.write("data/later", "l");
    let replace = ["restore", "latest", "--in-place", "--if-exists", "replace", "--yes"];
    let with = |flags: &[&str]| env.run(&[&replace[..], flags].concat());
    assert!(with(&[]).ok().stdout.contains("2 entries that the snapshot lacks (see --delete)"));
    let run = with(&["--delete"]).ok();
    assert!(run.stdout.contains("1 entry that the backup left out"), "{}", run.text());
    assert!(!env.path("data/later").exists() && env.path("data/left.tmp").exists());
    with(&["--delete-unknown"]).ok();
    assert!(env.path("data/left.tmp").exists());
    with(&["--delete-excluded"]).ok();
    assert!(!env.path("data/left.tmp").exists());
    let merge = ["restore", "latest", "--in-place", "--if-exists", "merge"];
    for flag in ["--delete", "--delete-excluded", "--delete-unknown"] {
        assert_eq!(env.run(&[&merge[..], &[flag]].concat()).code, 2, "{flag}");
    }
}

/// The rest is restored, and the failures are named.
#[test]
fn a_failed_entry_does_not_stop_a_restore() {
    let env = backed_up();
    std::fs::remove_file(env.path("data/letter.txt")).unwrap();
    env.write("data/letter.txt/precious", "p");
    env.write("data/photos/sea.jpg", "scribbled");
    let replace = ["restore", "latest", "--in-place", "--if-exists", "replace", "--yes"];
    let run = env.run(&replace);
    assert_eq!(run.code, 3, "{}", run.text());
    assert!(run.stdout.contains("failed: 1 entry, named above"), "{}", run.text());
    assert!(run.stderr.contains("letter.txt"), "{}", run.text());
    let events = env.run(&[&replace[..], &["--json"]].concat()).events();
    let json = events.last().unwrap();
    assert_eq!((&json["failures"], &json["failed"].as_array().unwrap().len()), (&1.into(), &1));
    assert_eq!(std::fs::read(env.path("data/letter.txt/precious")).unwrap(), b"p");
    assert_ne!(std::fs::read(env.path("data/photos/sea.jpg")).unwrap(), b"scribbled");
}

#[test]
fn in_place_the_newest_of_several_jobs_is_not_guessed() {
    let env = backed_up();
    env.write("other/file", "o");
    env.run(&["run", "-q", "--source", "other", "--job", "other"]).ok();
    let merge = ["restore", "latest", "--in-place", "--if-exists", "merge", "--dry-run"];
    let run = env.run(&merge);
    assert_eq!(run.code, 2, "{}", run.text());
    assert!(run.stderr.contains("jobs: manual, other") && run.stderr.contains("--job"));
    let run = env.run(&[&merge[..], &["--job", "other"]].concat()).ok();
    assert!(run.stdout.contains("of: job other, host "), "{}", run.text());
    // An identifier names one.
    let list = env.run(&["list", "--job", "manual", "--json"]).ok().json();
    let id = list["snapshots"][0]["id"].as_str().unwrap().to_owned();
    env.run(&["restore", &id[..8], "--in-place", "--if-exists", "merge", "--dry-run"]).ok();
    let run = env.run(&["restore", &id[..3], "--target", "out"]);
    assert!(run.code != 0 && run.stderr.contains("four digits"), "{}", run.text());
    assert!(!env.path("out").exists());
}

#[test]
fn exports_a_file() {
    let env = backed_up();
    let letter = env.path("data/letter.txt");
    let letter = letter.to_str().unwrap();
    assert_eq!(env.run(&["export", "latest", letter]).ok().stdout, "Dear reader\n");
    env.run(&["export", "latest", letter, "-o", "copy"]).ok();
    assert_eq!(std::fs::read_to_string(env.path("copy")).unwrap(), "Dear reader\n");
    env.run(&["export", "latest", letter, "-o", "copy"]).snapshot("export_exists");
    env.write("copy", "old");
    env.run(&["export", "latest", letter, "-o", "copy", "--if-exists", "replace"]).ok();
    assert_eq!(std::fs::read_to_string(env.path("copy")).unwrap(), "Dear reader\n");
    env.run(&["export", "latest", letter, "-o", "/dev/null"]).ok();
    let json = env.run(&["export", "latest", letter, "-o", "copy2", "--json"]).ok().json();
    assert_eq!((&json["output"], &json["skipped"]), (&"copy2".into(), &0.into()));
    env.run(&["export", "latest", env.path("data/link").to_str().unwrap()]).snapshot("export_link");
    env.run(&["export", "latest", letter, "--json"]).snapshot_json("export_json");
    env.run(&["export", "latest", letter, "-o", "none/copy"]).snapshot("export_no_directory");
}

#[test]
fn exports_an_archive() {
    let env = backed_up();
    let long = format!("data/{}/{}", "directory".repeat(12), "name".repeat(40));
    env.write(&long, &"content".repeat(1000));
    std::fs::hard_link(env.path("data/letter.txt"), env.path("data/zz-hard")).unwrap();
    env.run(&["run", "-q", "--source", "data"]).ok();
    env.run(&["export", "latest", env.path("data").to_str().unwrap(), "-o", "data.tar"]).ok();
    std::fs::create_dir(env.path("out")).unwrap();
    let tar = std::process::Command::new("tar")
        .args(["-x", "-f", "data.tar", "-C", "out"])
        .current_dir(env.path(""))
        .status()
        .unwrap();
    assert!(tar.success());
    for file in ["data/letter.txt", "data/photos/sea.jpg", "data/zz-hard", &long] {
        let (original, copy) = (env.path(file), below(&env, "out", file));
        assert_eq!(std::fs::read(&original).unwrap(), std::fs::read(&copy).unwrap(), "{file}");
        let modified = |path: &Path| path.metadata().unwrap().modified().unwrap();
        assert_eq!(modified(&original), modified(&copy), "{file}");
    }
    assert_eq!(
        std::fs::read_link(below(&env, "out", "data/link")).unwrap(),
        Path::new("letter.txt")
    );
    let inode = |file: &str| {
        std::os::unix::fs::MetadataExt::ino(&below(&env, "out", file).metadata().unwrap())
    };
    assert_eq!(inode("data/letter.txt"), inode("data/zz-hard"));
    assert_eq!(env.run(&["export", "latest", "-o", "all.tar"]).ok().text(), "exit code 0\n");
}

#[test]
fn an_archive_of_damaged_data_is_not_closed() {
    let env = Env::with_repository();
    // Larger than a pack, so that something is written before the damage is met.
    env.write("data/a", &"a".repeat(100));
    env.write("data/b", &(0..400_000).map(|at| format!("{at} ")).collect::<String>());
    env.run(&["run", "-q", "--source", "data"]).ok();
    let packs = std::fs::read_dir(env.path("repo/data"))
        .unwrap()
        .flat_map(|dir| std::fs::read_dir(dir.unwrap().path()).unwrap());
    let largest = packs
        .map(|pack| pack.unwrap().path())
        .max_by_key(|pack| pack.metadata().unwrap().len())
        .unwrap();
    let mut bytes = std::fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::remove_file(&largest).unwrap();
    std::fs::write(&largest, bytes).unwrap();

    let run = env.run(&["export", "latest", "-o", "out.tar"]);
    assert_eq!(run.code, 4, "{}", run.text());
    assert!(!env.path("out.tar").exists());
    assert_eq!(
        std::fs::read_dir(env.path(""))
            .unwrap()
            .filter(|entry| {
                entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".backup-export")
            })
            .count(),
        0
    );
    let output = env.command(&["export", "latest"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(!output.stdout.ends_with(&[0; 1024]), "an incomplete archive must not look complete");
}
