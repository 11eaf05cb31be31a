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

/// The secret of a channel, if it has one.
pub(super) struct Secret {
    text: Option<Passphrase>,
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
        Ok(Self { text })
    }

    /// The secret, for whoever sends it.
    pub(super) fn reveal(&self) -> Option<&str> {
        self.text.as_ref().map(Passphrase::reveal)
    }

    /// A text that others wrote, who may repeat what they were told: without the secret, in any form that it was sent in.
    pub(super) fn hide(&self, text: &str, user: Option<&str>) -> String {
        let Some(secret) = self.reveal() else { return text.to_owned() };
        let user = user.unwrap_or_default();
        let login = [format!("{user}:{secret}"), format!("\0{user}\0{secret}"), secret.to_owned()];
        let mut forms = vec![secret.to_owned()];
        forms.extend(login.iter().map(|form| STANDARD.encode(form)));
        forms.push(url::form_urlencoded::byte_serialize(secret.as_bytes()).collect());
        if let Some((_, address)) = secret.split_once("://") {
            // An address may be repeated in parts.
            forms.extend(address.split(['/', '?', '&', '=']).skip(1).map(str::to_owned));
            forms.retain(|form| form.len() >= SHORTEST_PART);
        }
        // Longer ones first: they may hold others.
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        forms.iter().filter(|form| !form.is_empty()).fold(text.to_owned(), |text, form| text.replace(form, HIDDEN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_form_of_a_secret_is_shown() {
        let secret = Secret { text: Some(Passphrase::new("hush/hush")) };
        let encoded = STANDARD.encode("\0me\0hush/hush");
        for text in ["hush/hush", "hush%2Fhush", &encoded, &STANDARD.encode("me:hush/hush")] {
            assert_eq!(secret.hide(&format!("bad: {text}!"), Some("me")), "bad: …!");
        }
        let slack = Secret { text: Some(Passphrase::new("https://hooks.slack.com/services/T0001/B00002/abcdefghi")) };
        assert_eq!(slack.hide("no abcdefghi, no /B00002/ at hooks.slack.com", None), "no …, no /…/ at hooks.slack.com");
        let none = Secret { text: None };
        assert_eq!(none.hide("text", None), "text");
    }
}
