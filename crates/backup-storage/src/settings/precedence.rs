//! URL before settings before environment.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::StoreSettings;

/// The settings that may stand in a URL. None of them is secret.
pub const URL_KEYS: [&str; 12] = [
    "account",
    "allow_http",
    "ca_file",
    "connections",
    "endpoint",
    "limit_download",
    "limit_upload",
    "path_style",
    "profile",
    "proxy",
    "region",
    "storage_class",
];

/// The settings with those of the URL above them and those of the environment beneath.
///
/// # Errors
/// Why a value of the URL cannot be used.
pub fn overlay(
    settings: &StoreSettings,
    url: &BTreeMap<String, String>,
) -> Result<StoreSettings, String> {
    let mut merged = settings.clone();
    for (key, value) in url {
        set(&mut merged, key, value).map_err(|error| format!("{key} in the URL: {error}"))?;
    }
    from_environment(&mut merged);
    Ok(merged)
}

fn set(settings: &mut StoreSettings, key: &str, value: &str) -> Result<(), String> {
    let text = Some(value.to_owned());
    match key {
        "account" => settings.account = text,
        "allow_http" => settings.allow_http = Some(switch(value)?),
        "ca_file" => settings.ca_file = text.map(PathBuf::from),
        "connections" => {
            let number =
                value.parse().map_err(|_| format!("{value:?} is not a number above zero"))?;
            settings.connections = Some(number);
        }
        "endpoint" => settings.endpoint = text,
        "limit_download" => settings.limit_download = Some(value.parse()?),
        "limit_upload" => settings.limit_upload = Some(value.parse()?),
        "path_style" => settings.path_style = Some(switch(value)?),
        "profile" => settings.profile = text,
        "proxy" => settings.proxy = text,
        "region" => settings.region = text,
        "storage_class" => settings.storage_class = text,
        _ => return Err("not a supported setting".to_owned()),
    }
    Ok(())
}

fn switch(value: &str) -> Result<bool, String> {
    match value {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        _ => Err(format!("{value:?} is neither true nor false")),
    }
}

/// What is neither a credential nor special to one kind of store. The others are looked up where
/// they are used.
fn from_environment(settings: &mut StoreSettings) {
    let environment = &settings.environment;
    let owned = |names: &[&str]| environment.first(names).map(ToOwned::to_owned);
    let region = owned(&["AWS_REGION", "AWS_DEFAULT_REGION"]);
    let ca_file = owned(&["AWS_CA_BUNDLE"]).map(PathBuf::from);
    let account = owned(&["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"]);
    settings.region = settings.region.take().or(region);
    settings.ca_file = settings.ca_file.take().or(ca_file);
    settings.account = settings.account.take().or(account);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Encryption, Environment, LockMode, Rate};

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_url_goes_before_settings_before_environment() {
        let environment =
            Environment::from(map(&[("AWS_REGION", "env"), ("AZURE_STORAGE_ACCOUNT", "env")]));
        let settings = StoreSettings {
            region: Some("set".to_owned()),
            endpoint: Some("https://set".to_owned()),
            environment,
            ..StoreSettings::default()
        };
        let merged =
            overlay(&settings, &map(&[("endpoint", "https://url"), ("limit_upload", "1M")]))
                .unwrap();
        assert_eq!(merged.endpoint.as_deref(), Some("https://url"));
        assert_eq!(merged.region.as_deref(), Some("set"));
        assert_eq!(merged.account.as_deref(), Some("env"));
        assert_eq!(merged.limit_upload, Rate::new(1 << 20));
    }

    #[test]
    fn every_key_of_a_url_is_taken() {
        for key in URL_KEYS {
            let value = match key {
                "allow_http" | "path_style" => "true",
                _ => "7",
            };
            let merged = overlay(&StoreSettings::default(), &map(&[(key, value)])).unwrap();
            assert_ne!(merged, StoreSettings::default(), "{key}");
        }
        assert!(overlay(&StoreSettings::default(), &map(&[("path_style", "maybe")])).is_err());
        assert!(overlay(&StoreSettings::default(), &map(&[("limit_upload", "0")])).is_err());
    }

    #[test]
    fn settings_are_flat_keys_of_a_table() {
        let text = "endpoint = \"https://x\"\npath_style = true\nconnections = 4\nlimit_upload = \
                    \"10MiB\"\nlimit_download = 1000\nsse = \"aws:kms\"\nlock_mode = \
                    \"compliance\"\nlock_days = 30\nstall_timeout = \"2m\"\nconnect_timeout = 5\n";
        let settings: StoreSettings = toml::from_str(text).unwrap();
        assert_eq!(settings.sse, Some(Encryption::Kms));
        assert_eq!(settings.lock_mode, Some(LockMode::Compliance));
        assert_eq!(settings.limit_upload, Rate::new(10 << 20));
        let again: StoreSettings = toml::from_str(&toml::to_string(&settings).unwrap()).unwrap();
        assert_eq!(again, settings);
        assert!(toml::from_str::<StoreSettings>("secret_access_key = \"x\"").is_err());
        assert!(toml::from_str::<StoreSettings>("connections = 0").is_err());
        assert!(toml::from_str::<StoreSettings>("limit_upload = 0").is_err());
        let error = toml::from_str::<StoreSettings>("stall_timeout = 604801").unwrap_err();
        assert!(error.to_string().contains("7 days"), "{error}");
    }
}
