//! A mail: text, and HTML beside it where a message has some.

use std::time::SystemTime;

use lettre::Message as Mail;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};

use super::{Failure, Task};
use crate::notify::check::mailbox;
use crate::notify::message::digest;

/// Says that no person wrote it, so that no machine answers (RFC 3834).
const AUTO: HeaderName = HeaderName::new_from_ascii_str("Auto-Submitted");

/// The sender.
pub(super) fn sender(task: &Task<'_>) -> Result<Mailbox, Failure> {
    understood(task.config.from.as_deref().unwrap_or_default())
}

/// An address of the configuration.
pub(super) fn understood(text: &str) -> Result<Mailbox, Failure> {
    mailbox(text).map_err(|error| Failure::later(error.to_string()))
}

/// The mail as it is sent.
pub(super) fn mail(task: &Task<'_>) -> Result<Vec<u8>, Failure> {
    let from = sender(task)?;
    let domain = from.email.domain().to_owned();
    let name = |texts: &[&str]| format!("<{}@{domain}>", digest(texts));
    // Of the same message the same: readers show it once. All messages of an incident are one
    // conversation.
    let id = name(&[task.channel, &task.message.id]);
    let incident = name(&[task.channel, "incident", &task.message.incident]);
    let mut mail = Mail::builder()
        .from(from)
        .subject(task.message.subject())
        .date(SystemTime::from(task.message.time))
        .message_id(Some(id))
        .references(incident)
        .raw_header(HeaderValue::new(AUTO, "auto-generated".to_owned()));
    for to in &task.config.to {
        mail = mail.to(understood(to)?);
    }
    let text = task.text();
    let made = match &task.message.html {
        Some(html) => mail.multipart(MultiPart::alternative_plain_html(text, html.clone())),
        None => mail.singlepart(SinglePart::plain(text)),
    };
    let made =
        made.map_err(|error| Failure::refused(format!("cannot compose the mail: {error}")))?;
    Ok(made.formatted())
}

#[cfg(test)]
mod tests {
    use super::super::super::channels::tests::with_task;
    use super::super::super::message::tests::message;
    use super::*;

    const MAIL: &str = "kind = \"smtp\"\nhost = \"h\"\nfrom = \"Backup <backup@example.com>\"\n\
                        to = [\"Höhe <ops@example.com>\", \"dev@example.com\"]";

    fn made(html: Option<&str>) -> String {
        let message = crate::notify::Message { html: html.map(str::to_owned), ..message() };
        with_task(MAIL, &message, |task| String::from_utf8(mail(task).unwrap()).unwrap())
    }

    #[test]
    fn a_mail_of_text() {
        let mail = made(None);
        for line in [
            "From: Backup <backup@example.com>\r\n",
            "Subject: [critical] The backup of shop failed\r\n",
            "Date: Mon, 23 Nov 2026 08:00:00 +0000\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "Content-Type: text/plain; charset=utf-8\r\n",
            "Where: job shop, repository main, host db1\r\n",
        ] {
            assert!(mail.contains(line), "{line}: {mail}");
        }
        assert!(mail.is_ascii(), "any server takes it: {mail}");
        assert_eq!(mail, made(None), "the same message is the same mail");
    }

    #[test]
    fn a_mail_with_a_report() {
        let mail = made(Some("<p>höhe</p>"));
        assert!(mail.contains("multipart/alternative") && mail.contains("text/html"), "{mail}");
        assert!(mail.is_ascii() && mail.contains("<p>h=C3=B6he</p>"), "{mail}");
        let (text, html) = (mail.find("text/plain").unwrap(), mail.find("text/html").unwrap());
        assert!(text < html, "the best form comes last");
    }
}
