//! Reports as a page that needs nothing else: no script, no font, no picture from elsewhere.

use std::fmt::Write;

use super::markdown::summary;
use super::tables::{Table, date, money};
use super::{Met, Report, chart};
use crate::words;

const STYLE: &str = "\
:root{color-scheme:light dark;--text:#1c2733;--faint:#66727f;--line:#d9dfe5;--page:#fff;--card:#f5f7f9;--good:#2f855a;--bad:#c53030;--neutral:#2b6cb0}
@media(prefers-color-scheme:dark){:root{--text:#e4e9ee;--faint:#98a4b0;--line:#36414c;--page:#151b21;--card:#1e262e;--good:#48bb78;--bad:#fc8181;--neutral:#63b3ed}}
*{box-sizing:border-box}body{margin:0 auto;padding:2rem 1.5rem 4rem;max-width:76rem;font:16px/1.5 system-ui,sans-serif;color:var(--text);background:var(--page)}
h1{margin:0;font-size:1.8rem}h2{margin:2.5rem 0 .75rem;font-size:1.2rem}p{margin:.25rem 0;color:var(--faint)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.75rem,1fr));gap:.75rem;margin:1.5rem 0}
.card{padding:.85rem;border-radius:.5rem;background:var(--card)}.card b{display:block;font-size:1.4rem;font-weight:600;white-space:nowrap}.card span{color:var(--faint);font-size:.85rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.875rem}th,td{padding:.45rem .55rem;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}td{overflow-wrap:anywhere}td.short{white-space:nowrap}
th{color:var(--faint);font-weight:500}td.mark{font-weight:700;text-align:center}.yes{color:var(--good)}.no{color:var(--bad)}.byhand{color:var(--faint)}
svg{width:100%;min-width:44rem;height:auto;margin:.5rem 0}svg text{font-size:14px;fill:var(--faint)}svg .axis{stroke:var(--line)}.good{fill:var(--good)}.bad{fill:var(--bad)}.neutral{fill:var(--neutral)}
.legend span::before{content:\"\";display:inline-block;width:.75rem;height:.75rem;margin-right:.4rem;border-radius:.15rem;background:var(--neutral)}.legend span{margin-right:1.25rem}.legend .ok::before{background:var(--good)}.legend .not::before{background:var(--bad)}
@media print{body{max-width:none;padding:0}.scroll{overflow:visible}svg{min-width:0}tr,.card,svg{break-inside:avoid}}
footer{margin-top:3rem;color:var(--faint);font-size:.8rem}";

const LEGEND: &str =
    "<p class=\"legend\"><span class=\"ok\">succeeded</span><span class=\"not\">failed</span></p>";
/// Characters of a cell that stay on one line: figures and times, but neither names nor sentences.
const SHORT: usize = 16;

/// A report as a page.
#[must_use]
pub fn html(report: &Report) -> String {
    let mut page =
        String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n");
    // Nothing is fetched, and nothing runs, also if a name in it was made to.
    page.push_str(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         'unsafe-inline'\">\n",
    );
    // Writing into text never fails.
    _ = write!(
        page,
        "<title>Backup report {}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n",
        date(report.to)
    );
    _ = writeln!(
        page,
        "<h1>Backup report</h1>\n<p>{} to {}, host {}</p>\n<p>{}</p>",
        date(report.from),
        date(report.to),
        escaped(&report.host),
        escaped(&summary(report))
    );
    cards(&mut page, report);
    _ = writeln!(
        page,
        "<h2>Backups {per}</h2>\n{LEGEND}\n<div class=\"scroll\">{}</div>\n<h2>Stored \
         {per}</h2>\n<div class=\"scroll\">{}</div>",
        chart::outcomes(&report.days),
        chart::stored(&report.days),
        per = chart::per(&report.days),
    );
    tables(&mut page, report);
    checklist(&mut page, report);
    _ = writeln!(
        page,
        "<footer>Generated on {} at {:.0}</footer>\n</body>\n</html>",
        escaped(&report.host),
        report.to
    );
    page
}

fn cards(page: &mut String, report: &Report) {
    let totals = &report.totals;
    let kept = report.checklist.iter().filter(|check| check.met == Met::Yes).count();
    let asked = report.checklist.iter().filter(|check| check.met != Met::ByHand).count();
    let mut cards = vec![
        (
            totals
                .success_rate
                .map_or_else(|| "–".to_owned(), |rate| format!("{:.1}%", rate * 100.0)),
            "of backups succeeded",
        ),
        (totals.succeeded.to_string(), "backups succeeded"),
        (totals.failed.to_string(), "backups failed"),
        (words::size(totals.stored_bytes), "stored"),
        (report.restores.len().to_string(), "restores"),
        (format!("{kept} of {asked}"), "requirements met"),
    ];
    if let Some(cost) = totals.cost_per_month {
        cards.push((money(cost, &report.currency), "storage per month"));
    }
    page.push_str("<div class=\"cards\">\n");
    for (figure, what) in cards {
        _ = writeln!(
            page,
            "<div class=\"card\"><b>{}</b><span>{what}</span></div>",
            escaped(&figure)
        );
    }
    page.push_str("</div>\n");
}

fn tables(page: &mut String, report: &Report) {
    for Table { heading, columns, rows } in super::tables::tables(report) {
        table(page, heading, &columns, rows.into_iter());
    }
}

fn checklist(page: &mut String, report: &Report) {
    page.push_str(
        "<h2>Checklist</h2>\n<div \
         class=\"scroll\"><table>\n<tr><th></th><th>Requirement</th><th>Evidence</th></tr>\n",
    );
    for check in &report.checklist {
        let class = match check.met {
            Met::Yes => "yes",
            Met::No => "no",
            Met::ByHand | Met::NotKnown => "byhand",
        };
        _ = writeln!(
            page,
            "<tr><td class=\"mark {class}\">{}</td><td>{}</td><td>{}</td></tr>",
            check.met.mark(),
            escaped(check.demand),
            escaped(&check.evidence)
        );
    }
    page.push_str("</table></div>\n");
}

/// A table with a heading; none without rows.
fn table(
    page: &mut String,
    heading: &str,
    columns: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return;
    }
    _ = write!(page, "<h2>{heading}</h2>\n<div class=\"scroll\"><table>\n<tr>");
    columns.iter().for_each(|column| page.push_str(&format!("<th>{column}</th>")));
    page.push_str("</tr>\n");
    for row in rows {
        page.push_str("<tr>");
        for cell in row {
            let class = if cell.chars().count() <= SHORT { " class=\"short\"" } else { "" };
            _ = write!(page, "<td{class}>{}</td>", escaped(&cell));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table></div>\n");
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}
