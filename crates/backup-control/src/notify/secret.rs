//! Secrets of channels: fetched when they are needed, and never shown.

use backup_core::crypto::Passphrase;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::config::NotifyConfig;
use crate::environment::Environment;
use crate::error::Result;
use crate::passphrase::PassphraseOrigin;

/// What stands where a secret stood.
const HIDDEN: &str = "…";
/// Parts of addresses that are shorter are no secrets, and may be words.
const SHORTEST_PART: usize = 6;

/// The secret of a channel, if it has one, and what of its configuration may be secret besides.
#[derive(Default)]
pub(super) struct Secret {
    text: Option<Passphrase>,
    /// Whose password it is.
    user: String,
    /// Values of headers, and parts of the address.
    others: Vec<String>,
}

impl Secret {
    /// Fetches it.
    ///
    /// # Errors
    /// [`crate::error::Error::Passphrase`]: it is not to be had.
    pub(super) async fn fetch(channel: &NotifyConfig, env: &Environment) -> Result<Self> {
        let text = match PassphraseOrigin::of_channel(channel) {
            Some(origin) => Some(origin.fetch_secret(env).await?),
            None => None,
        };
        let user =
            channel.user.as_deref().or(channel.account.as_deref()).unwrap_or_default().to_owned();
        let mut others: Vec<String> = channel.headers.values().cloned().collect();
        others.extend(channel.url.iter().flat_map(|url| parts(url.reveal())));
        others.retain(|part| part.len() >= SHORTEST_PART);
        Ok(Self { text, user, others })
    }

    /// The secret, for whoever sends it.
    pub(super) fn reveal(&self) -> Option<&str> {
        self.text.as_ref().map(Passphrase::reveal)
    }

    /// A text that others wrote, who may repeat what they were told: without what may be secret, in
    /// any form that it was sent in.
    pub(super) fn hide(&self, text: &str) -> String {
        let mut forms = self.others.clone();
        if let Some(secret) = self.reveal() {
            forms.extend(self.forms(secret));
        }
        // Longer ones first: they may hold others.
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        forms
            .iter()
            .filter(|form| !form.is_empty())
            .fold(text.to_owned(), |text, form| text.replace(form, HIDDEN))
    }

    fn forms(&self, secret: &str) -> Vec<String> {
        let user = &self.user;
        let login = [format!("{user}:{secret}"), format!("\0{user}\0{secret}"), secret.to_owned()];
        let mut forms = vec![secret.to_owned()];
        forms.extend(login.iter().map(|form| STANDARD.encode(form)));
        forms.push(url::form_urlencoded::byte_serialize(secret.as_bytes()).collect());
        if secret.contains("://") {
            // An address may be repeated in parts.
            forms.extend(parts(secret));
            forms.retain(|form| form.len() >= SHORTEST_PART);
        }
        forms
    }
}

/// What stands behind the host of an address, bit by bit.
fn parts(address: &str) -> Vec<String> {
    let behind = address.split_once("://").map_or("", |(_, rest)| rest);
    behind.split(['/', '?', '&', '=']).skip(1).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_form_of_a_secret_is_shown() {
        let of = |text: &str| Secret {
            text: Some(Passphrase::new(text)),
            user: "me".to_owned(),
            others: Vec::new(),
        };
        let secret = of("hush/hush");
        let encoded = STANDARD.encode("\0me\0hush/hush");
        for text in ["hush/hush", "hush%2Fhush", &encoded, &STANDARD.encode("me:hush/hush")] {
            assert_eq!(secret.hide(&format!("bad: {text}!")), "bad: …!");
        }
        let slack = of("https://hooks.slack.com/services/T0001/B00002/abcdefghi");
        assert_eq!(
            slack.hide("no abcdefghi, no /B00002/ at hooks.slack.com"),
            "no …, no /…/ at hooks.slack.com"
        );
        assert_eq!(Secret::default().hide("text"), "text");
    }

    #[tokio::test]
    async fn addresses_and_headers_may_be_secret() {
        let channel = "kind = \"webhook\"\nurl = \"https://host/a/hush-hush?x=hushed\"\nheaders = \
                       { X-Key = \"hushing\" }";
        let channel: NotifyConfig = toml::from_str(channel).unwrap();
        let secret = Secret::fetch(&channel, &Environment::default()).await.unwrap();
        assert_eq!(
            secret.hide("POST /a/hush-hush?x=hushed X-Key: hushing"),
            "POST /a/…?x=… X-Key: …"
        );
    }
}
