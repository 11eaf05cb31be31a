//! Mail.

use std::io::Write;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::{LONG, Place, message};

/// A server that says some lines, reads what it is told in between, and then says nothing more.
fn falls_silent(lines: &'static [&'static str]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            for line in lines {
                // Whoever gives up closes the connection.
                drop(stream.write_all(line.as_bytes()));
                std::thread::sleep(Duration::from_millis(100));
            }
            std::mem::forget(stream);
        }
    });
    port
}

#[tokio::test]
async fn servers_that_say_nothing_are_not_waited_for() {
    for lines in [&[][..], &["220 hello\r\n"], &["220 hello\r\n", "250 fine\r\n"]] {
        let port = falls_silent(lines);
        let place = Place::new(
            format!(
                "[notify.mail]\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {port}\nsecurity = \
                 \"none\"\ntimeout = \"1s\"\nfrom = \"b@example.com\"\nto = [\"ops@example.com\"]\n"
            ),
            &[],
        );
        place.put("mail", &message(1));
        let started = Instant::now();
        let delivered = place.deliver(Duration::from_secs(2)).await;
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert_eq!(
            delivered.waiting["mail"].error.as_deref(),
            Some("sending took longer than 1 second"),
            "{delivered:?}"
        );
    }
}

mod needs_aiosmtpd {
    use super::*;
    use crate::support::mail_server::{MailServer, PASSWORD, Security};

    const LOGIN: &str = "user = \"backup\"\nsecret_env = \"MAIL_PASSWORD\"\n";
    const OPS: &[&str] = &["ops@example.com"];

    fn place(server: &MailServer, to: &[&str], more: &str) -> Place {
        Place::new(server.channel(to, more), &[("MAIL_PASSWORD", PASSWORD)])
    }

    #[tokio::test]
    async fn arrives_over_tls_by_a_user_with_a_password() {
        for (security, key) in [(Security::StartTls, ""), (Security::Tls, "security = \"tls\"\n")] {
            let server = MailServer::start(security);
            let place = place(
                &server,
                &["Ops <ops@example.com>", "dev@example.com"],
                &format!("{LOGIN}{key}"),
            );
            let report = backup_control::notify::Message {
                html: Some("<h1>Report</h1>".into()),
                ..message(2)
            };
            place.put("mail", &message(1));
            place.put("mail", &report);
            let delivered = place.deliver(LONG).await;
            assert!(delivered.is_complete() && delivered.sent.len() == 2, "{delivered:?}");
            let mails = server.mails();
            assert_eq!(mails.len(), 2, "{mails:?}");
            for mail in &mails {
                assert_eq!(
                    (&mail["tls"], &mail["user"]),
                    (&true.into(), &"backup".into()),
                    "{mail}"
                );
                assert_eq!(mail["from"], "backup@example.com");
                assert_eq!(mail["to"], serde_json::json!(["ops@example.com", "dev@example.com"]));
                let content = mail["content"].as_str().unwrap();
                assert!(
                    content.contains("Subject: [critical] The backup of shop failed"),
                    "{content}"
                );
                assert!(content.contains("h=C3=B6h=C3=B6"), "{content}");
            }
            let content = mails[1]["content"].as_str().unwrap();
            assert!(
                content.contains("text/html") && content.contains("<h1>Report</h1>"),
                "{content}"
            );
        }
    }

    #[tokio::test]
    async fn greylisting_is_waited_for() {
        let server = MailServer::start(Security::StartTls);
        let place = place(&server, &["grey@example.com"], LOGIN);
        place.put("mail", &message(1));
        let first = place.deliver(Duration::from_secs(1)).await;
        let why = first.waiting["mail"].error.clone().unwrap();
        assert!(
            why.contains("451") && why.contains("greylisted") && server.mails().is_empty(),
            "{first:?}"
        );
        let second = place.deliver(LONG).await;
        assert!(second.is_complete() && second.sent.len() == 1, "{second:?}");
        assert_eq!(place.deliver(LONG).await.sent, []);
        assert_eq!(server.mails().len(), 1);
    }

    #[tokio::test]
    async fn one_who_is_not_there_keeps_nothing_from_the_others() {
        let server = MailServer::start(Security::StartTls);
        let place =
            place(&server, &["nobody@example.com", "ops@example.com", "grey@example.com"], LOGIN);
        place.put("mail", &message(1));
        let delivered = place.deliver(LONG).await;
        // First ops, then the one who was greylisted; the one who is not there is the only failure.
        let why = &delivered.given_up[0].why;
        assert!(
            why.contains("nobody@example.com")
                && why.contains("550")
                && why.contains("no such user"),
            "{why}"
        );
        assert!(!why.contains("grey") && delivered.waiting.is_empty(), "{delivered:?}");
        let to: Vec<_> = server.mails().iter().map(|mail| mail["to"].to_string()).collect();
        assert_eq!(to, ["[\"ops@example.com\"]", "[\"grey@example.com\"]"]);
    }

    #[tokio::test]
    async fn a_wrong_password_is_told_and_not_shown() {
        let server = MailServer::start(Security::StartTls);
        let place =
            Place::new(server.channel(OPS, LOGIN), &[("MAIL_PASSWORD", "wrong-but-secret")]);
        place.put("mail", &message(1));
        let delivered = place.deliver(LONG).await;
        let why = &delivered.given_up[0].why;
        assert!(
            why.contains("the login") && why.contains("535") && why.contains("… (…) is not"),
            "{why}"
        );
        assert!(!format!("{delivered:?}{}", place.stored()).contains("wrong-but"), "{delivered:?}");
        assert_eq!((server.logins().len(), server.mails().len()), (1, 0));
    }

    #[tokio::test]
    async fn without_tls_nothing_is_sent_and_no_password() {
        let server = MailServer::start(Security::Clear);
        let asks_for_tls = place(&server, OPS, LOGIN);
        let why = asks_for_tls.send("mail", &message(1)).await.unwrap_err();
        assert!(why.contains("later: TLS: STARTTLS is not supported"), "{why}");
        assert_eq!((server.logins().len(), server.mails().len()), (0, 0));
        // Who trusts the way can do without, and without a password.
        let plain = place(&server, OPS, "security = \"none\"\n");
        plain.send("mail", &message(1)).await.unwrap();
        assert_eq!((server.logins().len(), server.mails()[0]["tls"].clone()), (0, false.into()));
    }

    #[tokio::test]
    async fn a_server_that_is_another_gets_nothing() {
        let server = MailServer::start(Security::StartTls);
        let without = server.channel(OPS, LOGIN).replace("ca_file", "# ca_file");
        let place = Place::new(without, &[("MAIL_PASSWORD", PASSWORD)]);
        let why = place.send("mail", &message(1)).await.unwrap_err();
        assert!(why.starts_with("later: ") && why.contains("certificate"), "{why}");
        assert_eq!((server.logins().len(), server.mails().len()), (0, 0));
    }

    #[test]
    fn the_program_tests_it() {
        let server = MailServer::start(Security::StartTls);
        let place = place(&server, OPS, LOGIN);
        let tested = place.cli().run(&["notify", "test"]).succeeded();
        assert_eq!(tested.text(), "sent   mail\n");
        let content = server.mails()[0]["content"].to_string();
        assert!(content.contains("Subject: Test of the channel mail"), "{content}");
    }
}
