//! What is shipped for managers of services and of containers.

use std::path::{Path, PathBuf};

fn shipped(dir: &str) -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging").join(dir);
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    paths.map(|path| (name(&path), std::fs::read_to_string(&path).unwrap())).collect()
}

#[test]
fn containers_run_as_nobody_special_and_write_only_where_they_must() {
    for (name, text) in shipped("kubernetes") {
        let count = |word: &str| text.matches(word).count();
        let containers = count("image: backup:latest");
        assert_eq!(count("readOnlyRootFilesystem: true"), containers, "{name}");
        assert_eq!(count("drop: [\"ALL\"]"), containers, "{name}");
        assert_eq!(count("runAsNonRoot: true"), containers, "{name}");
        assert_eq!(count("allowPrivilegeEscalation: false"), containers, "{name}");
    }
    let (_, text) = shipped("container").remove(0);
    let user = text.find("USER 10001:10001").unwrap();
    assert!(user < text.find("ENTRYPOINT").unwrap());
    // The Rust that the sources ask for.
    let asked = include_str!("../../../Cargo.toml").split("rust-version = \"").nth(1).unwrap();
    let asked = asked.split('"').next().unwrap();
    assert!(text.contains(&format!("FROM rust:{asked}-")), "{asked}");
    // Base images are pinned by a digest that the caller has to give.
    let from = text.lines().filter_map(|line| line.strip_prefix("FROM "));
    let bases: Vec<&str> = from.filter_map(|image| image.split(' ').next()).collect();
    assert_eq!(bases.len(), 2);
    for base in bases {
        let (_, digest) = base.split_once('@').unwrap_or_else(|| panic!("{base} has no digest"));
        let argument = digest.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).unwrap();
        assert!(text.contains(&format!("\nARG {argument}\n")), "{argument}");
    }
}

/// What the manifests mount is a configuration that can be used.
#[test]
fn the_configuration_in_the_manifests_is_understood() {
    let manifests = shipped("kubernetes");
    let (_, text) = manifests.iter().find(|(name, _)| name == "config.yaml").unwrap();
    let (_, body) = text.split_once("backup.toml: |\n").unwrap();
    let toml: String = body.lines().map(|line| format!("{}\n", line.trim_start())).collect();
    let config = backup_control::config::parse(
        &toml,
        Path::new("/etc/backup/backup.toml"),
        &Default::default(),
    )
    .unwrap();
    assert!(config.jobs.contains_key("crm") && config.schedule.cleanup.is_some());
}

/// What the container file copies is there, or made by its first stage; and what it runs is what it
/// copied.
#[test]
fn the_container_file_copies_what_there_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (_, text) = shipped("container").remove(0);
    // Lines that go on are one.
    let text = text.replace("\\\n", " ");
    let lines: Vec<Vec<&str>> =
        text.lines().map(|line| line.split_whitespace().collect()).collect();
    let cargo = lines.iter().find(|words| words.contains(&"cargo")).unwrap();
    let after = |flag: &str| {
        let pairs = cargo.windows(2).filter(|pair| pair[0] == flag);
        pairs.map(|pair| pair[1]).collect::<Vec<_>>()
    };
    let manifest = |package: &str| {
        std::fs::read_to_string(root.join("crates").join(package).join("Cargo.toml")).unwrap()
    };
    let manifests: String = after("-p").into_iter().map(manifest).collect();
    for program in after("--bin") {
        assert!(manifests.contains(&format!("[[bin]]\nname = \"{program}\"")), "{program}");
    }
    assert!(root.join("Cargo.lock").is_file(), "--locked takes it");
    for copy in lines.iter().filter(|words| words.first() == Some(&"COPY")) {
        let from = copy.iter().find_map(|word| word.strip_prefix("--from="));
        let paths: Vec<&str> = copy[1..copy.len() - 1]
            .iter()
            .filter(|word| !word.starts_with("--"))
            .copied()
            .collect();
        for path in paths {
            match from {
                None => assert!(root.join(path).exists(), "{path} is not in the sources"),
                Some(stage) => {
                    assert!(text.contains(&format!(" AS {stage}\n")), "{stage}");
                    let program = path.strip_prefix("/src/target/release/").unwrap();
                    assert!(after("--bin").contains(&program), "{path} is not built");
                }
            }
        }
    }
    let entry = lines.iter().find(|words| words.first() == Some(&"ENTRYPOINT")).unwrap();
    let program = entry[1].trim_matches(['[', ']', '"']).strip_prefix("/usr/local/bin/").unwrap();
    assert!(after("--bin").contains(&program), "{program}");
    // What is kept is where the programs look for it, and the user may write there.
    for (variable, place) in
        [("BACKUP_STATE_DIR", "/var/lib/backup"), ("BACKUP_CACHE_DIR", "/var/lib/backup/cache")]
    {
        assert!(text.contains(&format!("{variable}={place}")), "{variable}");
        let made = lines.iter().any(|words| words.contains(&"install") && words.contains(&place));
        assert!(made, "{place}");
    }
    assert!(text.contains("VOLUME /var/lib/backup\n"));
}

mod needs_container_engine {
    use std::process::Command;

    use super::*;

    /// Takes long, and a network: with --long.
    #[test]
    #[ignore = "builds everything once more, in a container"]
    fn an_image_is_built_and_runs() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let podman = |args: &[&str]| {
            let output = Command::new("podman").current_dir(&root).args(args).output().unwrap();
            assert!(
                output.status.success(),
                "{args:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            String::from_utf8(output.stdout).unwrap()
        };
        let text = std::fs::read_to_string(root.join("packaging/container/Containerfile")).unwrap();
        let mut build: Vec<String> =
            ["build", "-t", "backup-test", "-f", "packaging/container/Containerfile"]
                .map(str::to_owned)
                .into();
        for line in text.lines().filter_map(|line| line.strip_prefix("FROM ")) {
            let (image, digest) = line.split_once("@${").unwrap();
            podman(&["pull", image]);
            let found = podman(&["image", "inspect", "--format", "{{.Digest}}", image]);
            let (argument, _) = digest.split_once('}').unwrap();
            build.extend(["--build-arg".to_owned(), format!("{argument}={}", found.trim())]);
        }
        build.push(".".to_owned());
        podman(&build.iter().map(String::as_str).collect::<Vec<_>>());
        let run = [
            "run",
            "--rm",
            "--read-only",
            "--tmpfs",
            "/tmp",
            "--cap-drop",
            "all",
            "backup-test",
            "--version",
        ];
        assert!(podman(&run).starts_with("backupd "));
    }
}

mod needs_kubernetes_validate {
    use std::process::Command;

    use super::*;

    /// The program with the schemas, on a file; what it says if it finds something.
    fn wrong(file: &Path) -> Option<String> {
        let tools = std::env::var_os("BACKUP_TEST_TOOLS").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools"),
            PathBuf::from,
        );
        let mut validate = Command::new(tools.join("bin/kubernetes-validate"));
        let output = validate.args(["--strict", "--quiet"]).arg(file).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (!output.status.success()).then(|| String::from_utf8(said).unwrap())
    }

    #[test]
    fn manifests_are_those_of_the_schema() {
        let dir = tempfile::tempdir().unwrap();
        let manifests = shipped("kubernetes");
        assert!(manifests.len() >= 4);
        for (name, text) in &manifests {
            let file = dir.path().join(name);
            std::fs::write(&file, text).unwrap();
            assert_eq!(wrong(&file), None, "{name}");
            // What it has to find, it finds.
            std::fs::write(&file, text.replace("metadata:", "metadatum:")).unwrap();
            assert!(wrong(&file).is_some(), "{name}");
        }
    }
}

mod needs_systemd_analyze {
    use std::process::Command;

    use super::*;

    #[test]
    fn units_are_sound() {
        let dir = tempfile::tempdir().unwrap();
        // The programs are not where they are installed: others that are there stand for them.
        let program = env!("CARGO_BIN_EXE_backupd");
        for (name, text) in shipped("systemd") {
            let text = text
                .replace("/usr/local/bin/backupd", program)
                .replace("/usr/local/bin/backup ", &format!("{program} "));
            std::fs::write(dir.path().join(name.replace('@', "@x")), text).unwrap();
        }
        let files: Vec<PathBuf> =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 3);
        let mut verify = Command::new("systemd-analyze");
        let output = verify
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .args(files)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        // Of other units of this machine nothing is asked.
        let own = text
            .lines()
            .filter(|line| line.contains(dir.path().to_str().unwrap()) || line.contains("backup"));
        assert_eq!(own.collect::<Vec<_>>(), Vec::<&str>::new(), "{text}");
        assert!(output.status.success(), "{text}");
    }
}
