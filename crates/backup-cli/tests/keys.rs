//! key: every verb, and that what was revoked opens nothing.

use std::os::unix::fs::MetadataExt;

use crate::common::Env;

/// A repository with one snapshot.
fn repository() -> Env {
    let env = Env::with_repository();
    env.write_tree();
    env.run(&["run", "-q", "--source", "data"]).ok();
    env
}

fn opens(env: &Env, passphrase: &str) -> bool {
    match env.run(&["list", "-q", "--password-command", &format!("echo '{passphrase}'")]).code {
        0 => true,
        12 => false,
        code => panic!("exit code {code}"),
    }
}

fn keys(env: &Env) -> Vec<String> {
    let list = env.run(&["key", "list", "--json"]).ok().json();
    list["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn adds_generates_and_lists() {
    let env = repository();
    let generated = env.run(&["key", "generate"]).ok().snapshot("key_generate").stdout;
    assert!(opens(&env, generated.trim()));
    let json = env
        .run(&["key", "generate", "--label", "vault", "--json"])
        .ok()
        .snapshot_json("key_generate_json")
        .json();
    assert!(opens(&env, json["passphrase"].as_str().unwrap()));
    env.run(&["key", "generate", "--label", "paper", "--key-file", "paper"])
        .ok()
        .snapshot("key_generate_file");
    assert_eq!(std::fs::metadata(env.path("paper")).unwrap().mode() & 0o777, 0o600);
    env.run(&["list", "-q", "--password-file", "paper"]).ok();
    let add = ["key", "add", "--label", "office"];
    env.run_with(&add, &[("BACKUP_NEW_PASSWORD", "second")]).ok().snapshot("key_add");
    env.run_with(&["key", "add"], &[("BACKUP_NEW_PASSWORD_COMMAND", "echo third")]).ok();
    assert!(opens(&env, "second") && opens(&env, "third") && !opens(&env, "fourth"));
    env.run(&add).snapshot("key_add_without_passphrase");
    assert_eq!(
        env.run_with(&add, &[("BACKUP_NEW_PASSWORD", "second")]).snapshot("key_add_known").code,
        5
    );
    env.run(&["key", "list"]).ok().snapshot_table("key_list");
    env.run(&["key", "list", "--json"]).ok().snapshot_json("key_list_json");
}

#[test]
fn a_removed_key_opens_nothing_and_the_last_one_stays() {
    let env = repository();
    env.run_with(&["key", "add"], &[("BACKUP_NEW_PASSWORD", "second")]).ok();
    let (first, second) = (&keys(&env)[0], &keys(&env)[1]);
    assert_eq!(env.run(&["key", "remove", second]).snapshot("key_remove_unconfirmed").code, 5);
    env.run(&["key", "remove", "zebra", "--yes"]).snapshot("key_remove_unknown");
    // Whether the other one works is not known.
    assert_eq!(env.run(&["key", "remove", first, "--yes"]).snapshot("key_remove_in_use").code, 5);
    env.run(&["key", "remove", &second[..12], "--yes"]).ok().snapshot("key_remove");
    assert!(!opens(&env, "second"));
    assert_eq!(env.run(&["key", "remove", first, "--yes"]).snapshot("key_remove_last").code, 5);
    assert_eq!(env.run(&["key", "remove", first, "--yes", "--json"]).code, 5);
    env.run(&["verify", "latest", "-q"]).ok();
}

#[test]
fn rotating_revokes_the_old_pass_phrase() {
    let env = repository();
    env.run_with(&["key", "add", "--label", "office"], &[("BACKUP_NEW_PASSWORD", "second")]).ok();
    let old = std::fs::read_to_string(env.path("key")).unwrap();
    assert_eq!(
        env.run(&["key", "rotate", "--key-file", "new"]).snapshot("key_rotate_unconfirmed").code,
        5
    );
    assert!(!env.path("new").exists() && opens(&env, old.trim()));
    env.run(&["key", "rotate", "--key-file", "new", "--yes"]).ok().snapshot("key_rotate");
    assert!(!opens(&env, old.trim()) && opens(&env, "second"));
    let with = [("BACKUP_PASSWORD_FILE", "new")];
    let known = ["key", "rotate", "--new-password-command", "echo second", "--yes"];
    assert_eq!(env.run_with(&known, &with).snapshot("key_rotate_known").code, 5);
    assert!(opens(&env, "second"));
    env.run_with(&["verify", "latest", "-q"], &with).ok();
    let rotate = ["key", "rotate", "--new-password-command", "echo fourth", "--yes", "--json"];
    env.run_with(&rotate, &[("BACKUP_PASSWORD_FILE", ""), ("BACKUP_PASSWORD", "second")])
        .ok()
        .snapshot_json("key_rotate_json");
    assert!(!opens(&env, "second") && opens(&env, "fourth"));
    let list = env.run_with(&["key", "list", "--json"], &with).ok().json();
    assert_eq!(list["keys"][1]["label"], "office", "it keeps its label");
}

#[test]
fn an_exported_key_comes_back() {
    let env = repository();
    env.run(&["key", "export", "--to", "bundle"]).ok().snapshot("key_export");
    assert_eq!(std::fs::metadata(env.path("bundle")).unwrap().mode() & 0o777, 0o600);
    env.run(&["key", "export", "--to", "bundle"]).snapshot("key_export_exists");
    std::fs::rename(env.path("repo/keys"), env.path("lost")).unwrap();
    std::fs::create_dir(env.path("repo/keys")).unwrap();
    assert_eq!(env.run(&["list"]).code, 4);
    env.run_with(&["key", "import", "bundle"], &[("BACKUP_PASSWORD_FILE", "")])
        .ok()
        .snapshot("key_import");
    env.run(&["verify", "latest", "-q"]).ok();
    env.write("letter.txt", "Dear reader");
    env.run(&["key", "import", "letter.txt"]).snapshot("key_import_something_else");
    env.run(&["init", "-q", "-r", "other"]).ok();
    env.run(&["key", "import", "bundle", "-r", "other"]).snapshot("key_import_elsewhere");
}

#[test]
fn a_new_master_key_in_a_new_repository() {
    let env = repository();
    env.run(&["hold", "latest", "--reason", "case 4711", "-q"]).ok();
    let rotate = ["key", "rotate", "--master", "--to", "other", "--key-file", "new"];
    env.run(&rotate).ok().without("Copying: ").snapshot("key_rotate_master");
    env.run(&["run", "-q", "--source", "data"]).ok();
    // Whoever calls it again goes on where it was.
    env.run(&rotate).ok().without("Copying: ").snapshot("key_rotate_master_again");
    assert_eq!(
        env.run(&["list", "-r", "other"]).code,
        12,
        "the old pass phrase opens nothing there"
    );
    let list = env.run(&["list", "-r", "other", "--password-file", "new", "--json"]).ok().json();
    assert_eq!(list["snapshots"].as_array().unwrap().len(), 2);
    assert_eq!(list["snapshots"][0]["hold"]["reason"], "case 4711");
    env.run(&["check", "-q", "--read-data", "-r", "other", "--password-file", "new"]).ok();
    env.run(&["verify", "-q", "--all"]).ok();
    env.run(&["key", "rotate", "--master"]).snapshot("key_rotate_master_nowhere");
}

/// One snapshot whose object is damaged, one that has lost its data, and a sound one.
#[test]
fn rotation_of_the_master_key_names_snapshots_left_out() {
    let env = repository();
    let unreadable = env.latest();
    env.write("other/letter.txt", "Dear reader, this is another letter\n");
    let before = env.packs();
    env.run(&["run", "-q", "--source", "other"]).ok();
    let lost = env.latest();
    env.packs()
        .into_iter()
        .filter(|pack| !before.contains(pack))
        .for_each(|pack| std::fs::remove_file(pack).unwrap());
    env.write("third/letter.txt", "Dear reader, this is the third letter\n");
    assert_eq!(env.run(&["run", "-q", "--source", "third"]).code, 4, "packs are lost");
    std::fs::write(env.path("repo/snapshots").join(&unreadable), "damaged").unwrap();
    let rotated = env.run(&["key", "rotate", "--master", "--to", "new", "--key-file", "new.key"]);
    assert_eq!(rotated.code, 3, "{}", rotated.text());
    let named = |id: &str| rotated.stderr.contains(&format!("snapshot {}", &id[..8]));
    assert!(rotated.stderr.contains("2 damaged snapshots are not in new"), "{}", rotated.text());
    assert!(named(&unreadable) && named(&lost), "{}", rotated.text());
    assert!(!rotated.stderr.contains("All snapshots are in both"), "{}", rotated.text());
    let list = env.run(&["list", "-r", "new", "--password-file", "new.key", "--json"]).ok().json();
    assert_eq!(list["snapshots"].as_array().unwrap().len(), 1);
}
