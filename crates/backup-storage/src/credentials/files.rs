//! `~/.aws/config` and `~/.aws/credentials`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::settings::Environment;
use crate::wire::WireError;

/// Profiles by name, each with its settings.
pub(crate) type Profiles = BTreeMap<String, BTreeMap<String, String>>;

/// Where the two files are: configuration, credentials.
pub(crate) fn paths(environment: &Environment) -> [Option<PathBuf>; 2] {
    let home = environment.first(&["HOME", "USERPROFILE"]).map(PathBuf::from);
    let path = |variable: &str, name: &str| {
        environment
            .get(variable)
            .map(PathBuf::from)
            .or_else(|| home.as_ref().map(|home| home.join(".aws").join(name)))
    };
    [path("AWS_CONFIG_FILE", "config"), path("AWS_SHARED_CREDENTIALS_FILE", "credentials")]
}

/// Reads both files. What stands in the second goes before what stands in the first; a file that is
/// missing is empty.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn read(environment: &Environment) -> Result<Profiles, WireError> {
    let mut profiles = Profiles::new();
    for (path, prefixed) in paths(environment).into_iter().zip([true, false]) {
        let Some(path) = path else { continue };
        match std::fs::read_to_string(&path) {
            Ok(text) => parse(&text, prefixed, &mut profiles),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(WireError::Credentials(format!(
                    "cannot read {}: {error}",
                    path.display()
                )));
            }
        }
    }
    Ok(profiles)
}

/// In the configuration, sections are called `[profile NAME]`, but for `[default]`; others are no
/// profiles.
fn parse(text: &str, prefixed: bool, profiles: &mut Profiles) {
    let mut section = None;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[') {
            let name = name.split(']').next().unwrap_or_default().trim();
            section = match name
                .strip_prefix("profile")
                .filter(|rest| rest.starts_with(char::is_whitespace))
            {
                Some(rest) if prefixed => Some(rest.trim().to_owned()),
                _ if prefixed && name != "default" => None,
                _ => Some(name.to_owned()),
            };
            continue;
        }
        // Lines that are indented belong to a setting that has settings itself.
        let (Some(section), false) = (&section, line.starts_with([' ', '\t'])) else { continue };
        if let Some((key, value)) = trimmed.split_once('=') {
            let value = value.split(" #").next().unwrap_or(value).trim();
            let settings = profiles.entry(section.clone()).or_default();
            settings.insert(key.trim().to_ascii_lowercase(), value.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_make_profiles() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".aws")).unwrap();
        std::fs::write(
            dir.path().join(".aws/config"),
            "# mine\n[default]\nregion = eu-1\ns3 =\n  max = 7\n[profile  work ]\nrole_arn=arn:x # \
             why\nsource_profile = default\n[sso-session x]\nregion = no\n",
        )
        .unwrap();
        std::fs::write(
            dir.path().join(".aws/credentials"),
            "[default]\naws_access_key_id = AK\nregion = eu-2\n",
        )
        .unwrap();
        let home = dir.path().to_str().unwrap().to_owned();
        let profiles = read(&Environment::from_iter([("HOME".to_owned(), home)])).unwrap();
        assert_eq!(profiles.keys().collect::<Vec<_>>(), ["default", "work"]);
        assert_eq!(profiles["default"]["region"], "eu-2");
        assert_eq!(profiles["default"]["aws_access_key_id"], "AK");
        assert!(!profiles["default"].contains_key("max"));
        assert_eq!(profiles["work"]["role_arn"], "arn:x");
        assert!(read(&Environment::default()).unwrap().is_empty());
    }
}
