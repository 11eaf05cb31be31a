//! Reports in a real browser: they are seen, at every width, and nothing in them runs.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | the tests |
//! | `harness.html` | the page that shows a report at several widths and says what is seen |

mod needs_chromium {
    use std::process::Command;

    use backup_core::testing::tool;
    use serde::Deserialize;

    use super::super::tests::{channels, config, given};
    use super::super::{Report, html};

    const HARNESS: &str = include_str!("harness.html");

    /// What is seen of a page in a window that is so wide.
    #[derive(Debug, Deserialize)]
    struct Seen {
        width: u32,
        mode: String,
        background: String,
        wider_than_its_window: i32,
        charts: Vec<Chart>,
        cut_off: Vec<String>,
        /// Tables and charts whose right end shows only after scrolling.
        scrolled: Vec<String>,
        unreadable: Vec<String>,
        texts: usize,
        scripts: usize,
        ran: bool,
    }

    #[derive(Debug, Deserialize)]
    struct Chart {
        bars: usize,
        outside: usize,
        overlaps: usize,
        text_height: f64,
    }

    /// Shows a page, and gives what is seen at each width and what the browser has to complain of.
    fn look(page: &str, scheme: &str) -> (Vec<Seen>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("report.html"), page).unwrap();
        std::fs::write(dir.path().join("harness.html"), HARNESS).unwrap();
        let out = Command::new(tool("chromium-headless-shell"))
            // No sandbox: there is none for root. Nothing is fetched, also not by the browser for
            // itself.
            .args([
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
            ])
            .args([
                "--disable-component-update",
                "--disable-sync",
                "--host-resolver-rules=MAP * ~NOTFOUND",
            ])
            .args([
                "--allow-file-access-from-files",
                "--enable-logging=stderr",
                "--virtual-time-budget=20000",
            ])
            .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
            .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
            .arg("--dump-dom")
            .arg(format!("file://{}", dir.path().join("harness.html").display()))
            .env("HOME", dir.path())
            .output()
            .unwrap();
        let (dom, log) = (
            String::from_utf8(out.stdout).unwrap(),
            String::from_utf8_lossy(&out.stderr).into_owned(),
        );
        let seen = dom
            .split_once("<pre id=\"seen\">")
            .unwrap_or_else(|| panic!("nothing is seen: {dom}\n{log}"))
            .1;
        let seen = seen
            .split_once("</pre>")
            .unwrap()
            .0
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&amp;", "&");
        let complaints =
            log.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect();
        (serde_json::from_str(&seen).unwrap(), complaints)
    }

    fn assert_is_readable(seen: &Seen, bars: &[usize]) {
        assert_eq!(seen.mode, "CSS1Compat", "as standards have it");
        assert!(seen.wider_than_its_window <= 0, "it can only be scrolled down: {seen:?}");
        assert_eq!(
            seen.charts.iter().map(|chart| chart.bars).collect::<Vec<_>>(),
            bars,
            "{seen:?}"
        );
        for chart in &seen.charts {
            assert_eq!((chart.outside, chart.overlaps), (0, 0), "{seen:?}");
            assert!(
                chart.text_height >= 11.0,
                "the text of a chart is too small to read: {seen:?}"
            );
        }
        assert!(seen.texts > 50, "{seen:?}");
        assert_eq!(seen.cut_off, Vec::<String>::new(), "at {}", seen.width);
        assert_eq!(seen.unreadable, Vec::<String>::new(), "on {}", seen.background);
        if seen.width >= 1280 {
            assert_eq!(seen.scrolled, Vec::<String>::new(), "on a desktop");
        }
    }

    #[test]
    fn a_year_is_seen_at_every_width_by_day_and_by_night() {
        let config = config();
        let report = Report::of(&given(&config, &channels(&config)));
        // 365 days by four: each bar has those that succeeded, and seven have one that failed on
        // top.
        let bars = [92 + 7, 92];
        let pages = ["1", "0"].map(|scheme| {
            let (seen, complaints) = look(&html(&report), scheme);
            assert_eq!(complaints, Vec::<String>::new());
            assert_eq!(
                seen.iter().map(|page| page.width).collect::<Vec<_>>(),
                [320, 375, 768, 1280]
            );
            seen.iter().for_each(|page| assert_is_readable(page, &bars));
            seen
        });
        assert_ne!(pages[0][0].background, pages[1][0].background, "the night is dark");
    }

    #[test]
    fn nothing_in_a_name_runs() {
        let config = config();
        let evil = "<script>window.ran = true; console.error('ran')</script><img src=x \
                    onerror='window.ran = true'>";
        let mut report = Report::of(&given(&config, &channels(&config)));
        evil.clone_into(&mut report.host);
        evil.clone_into(&mut report.currency);
        report
            .jobs
            .iter_mut()
            .for_each(|job| (job.job, job.last_failure) = (evil.to_owned(), Some(evil.to_owned())));
        report.repositories.iter_mut().for_each(|known| evil.clone_into(&mut known.place));
        let (seen, complaints) = look(&html(&report), "1");
        assert_eq!(complaints, Vec::<String>::new());
        assert!(seen.iter().all(|page| page.scripts == 0 && !page.ran), "{seen:?}");
    }

    /// The harness sees what is wrong: else the tests above could not fail.
    #[test]
    fn what_is_wrong_is_seen() {
        let config = config();
        let page = html(&Report::of(&given(&config, &channels(&config))));
        let wrong = page
            .replace("<!doctype html>", "")
            .replace(
                "; style-src 'unsafe-inline'",
                "; style-src 'unsafe-inline'; script-src \
                 'unsafe-inline'",
            )
            .replace(
                "</body>",
                "<p style=\"width:3000px;color:#eee\">wide and \
                 pale</p><script>window.ran = true; nowhere()</script></body>",
            );
        let (seen, complaints) = look(&wrong, "1");
        assert!(
            complaints.iter().any(|line| line.contains("nowhere is not defined")),
            "{complaints:?}"
        );
        for page in &seen {
            assert_eq!((page.mode.as_str(), page.scripts, page.ran), ("BackCompat", 1, true));
            assert!(page.wider_than_its_window > 1000, "{page:?}");
            assert_eq!(page.unreadable, ["p \"wide and pale\""]);
        }
    }
}
