//! Text messages, by Twilio or a service with the same interface: one request for each number.

use super::{Failure, Reached, Task, http};

const SERVICE: &str = "https://api.twilio.com";
/// Letters of a message that is not cut into several.
const LETTERS: usize = 160;

pub(in crate::notify) async fn send(
    task: &Task<'_>,
    reached: &mut Reached<'_>,
) -> Result<(), Failure> {
    let account = task.config.account.as_deref().unwrap_or_default();
    let url =
        http::address(task, SERVICE, &format!("/2010-04-01/Accounts/{account}/Messages.json"))?;
    let user = task.config.user.as_deref().unwrap_or(account);
    let text = plain(&task.message.short(LETTERS));
    let from = task.config.from.as_deref().unwrap_or_default();
    // A group of numbers, or one of them.
    let sender = if from.starts_with("MG") { "MessagingServiceSid" } else { "From" };
    let mut failures = Vec::new();
    for number in reached.left(&task.config.to) {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("To", number.as_str()), (sender, from), ("Body", &text)])
            .finish();
        let request = http::client(task)?
            .post(url.clone())
            .basic_auth(user, Some(task.secret()?))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(form);
        // A number that is wrong keeps nothing from the others.
        match http::send(task, request).await.and_then(http::Answer::judge) {
            Ok(()) => reached.add([number])?,
            Err(failure) => failures.push(failure.reworded(|why| format!("{number}: {why}"))),
        }
    }
    Failure::worst(&failures).map_or(Ok(()), Err)
}

/// Letters for which telephones need half as much room again, as those that mean the same.
fn plain(text: &str) -> String {
    let letter = |c: char| match c {
        '…' => "...".to_owned(),
        '–' | '—' => "-".to_owned(),
        '“' | '”' | '„' => "\"".to_owned(),
        '‘' | '’' | '`' => "'".to_owned(),
        c => c.to_string(),
    };
    crate::notify::message::cut(&text.chars().map(letter).collect::<String>(), LETTERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_that_cost_are_replaced() {
        assert_eq!(plain("“a” – `b`…"), "\"a\" - 'b'...");
        assert_eq!(plain(&"…".repeat(100)).chars().count(), LETTERS);
    }
}
