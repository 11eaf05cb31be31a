//! Whether a listing is one.
//!
//! A proxy's error page with status 200, an empty body or a truncated one would otherwise look like
//! an empty store to a lenient parser, and an empty store is the one answer that makes callers
//! delete things. So a page is believed only if it is whole, says of itself what it is and whether
//! more follows, repeats the prefix that was asked for where it repeats one, and has as many keys
//! as it counts.

use url::form_urlencoded;

use super::tag;

/// Whether a query asks for a page of a listing.
pub(super) fn is_list(query: &str) -> bool {
    form_urlencoded::parse(query.as_bytes()).any(|(key, value)| {
        (key == "list-type" && value == "2")
            || (key == "comp" && value == "list")
            || key == "uploads"
    })
}

/// Checks a page of a listing; the error says what is wrong with it.
pub(super) fn check(body: &[u8], query: &str) -> Result<(), String> {
    let text = std::str::from_utf8(body).map_err(|_| "it is not valid UTF-8".to_owned())?;
    let text = text.trim_start_matches('\u{feff}').trim();
    let root = root(text).ok_or_else(|| "it is not XML".to_owned())?;
    let needed: &[&str] = match root {
        "ListBucketResult" | "ListMultipartUploadsResult" => &["<IsTruncated>"],
        "EnumerationResults" => &["<Blobs", "<NextMarker"],
        other => return Err(format!("it is a <{other}>")),
    };
    if !text.ends_with(&format!("</{root}>")) {
        return Err("it is truncated".to_owned());
    }
    if let Some(missing) = needed.iter().find(|needed| !text.contains(**needed)) {
        return Err(format!("it has no {missing}"));
    }
    if root == "ListBucketResult" {
        check_bucket(text, query)?;
    }
    let next = |name| tag(text, name).filter(|token| !token.is_empty());
    let used = form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == "continuation-token" || key == "marker");
    if let Some((_, used)) = used
        && let Some(next) = next("NextContinuationToken").or_else(|| next("NextMarker"))
        && next == used
    {
        return Err("it continues with itself".to_owned());
    }
    Ok(())
}

/// True for a page that has no objects and reports that more follow. Azure returns such pages.
pub(super) fn is_empty_page(body: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(body) else { return false };
    let has_next = tag(text, "NextMarker").is_some_and(|marker| !marker.is_empty());
    has_next && !text.contains("<Blob>") && !text.contains("<Contents>")
}

fn check_bucket(text: &str, query: &str) -> Result<(), String> {
    let asked = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "prefix");
    let asked = asked.map(|(_, value)| value.into_owned()).unwrap_or_default();
    // Prefixes of several keys are listed only if a delimiter was given.
    let is_grouped = form_urlencoded::parse(query.as_bytes()).any(|(key, _)| key == "delimiter");
    // Those of single keys come later, in <CommonPrefixes>.
    let head = text.split("<CommonPrefixes>").next().unwrap_or(text);
    // Our prefixes have no characters that XML or URLs write differently, but for these.
    let plain = |text: &str| text.replace("%2F", "/").replace("%2f", "/");
    if let Some(said) = tag(head, "Prefix")
        && plain(said) != asked
        && !asked.contains(['(', ')', '!', '*', '=', '+'])
    {
        return Err("it lists another prefix".to_owned());
    }
    let groups = if is_grouped { text.matches("<CommonPrefixes>").count() } else { 0 };
    let keys = text.matches("<Contents>").count() + groups;
    match tag(text, "KeyCount").map(str::parse::<usize>) {
        Some(Ok(count)) if count > 0 && keys == 0 => {
            Err(format!("it reports {count} keys but contains none"))
        }
        _ if keys == 0 && tag(text, "IsTruncated") == Some("true") => {
            Err("it contains no keys but reports that more follow".to_owned())
        }
        _ => Ok(()),
    }
}

/// Name of the root element.
fn root(mut text: &str) -> Option<&str> {
    while let Some(rest) = text.strip_prefix("<?").or_else(|| text.strip_prefix("<!")) {
        text = rest.split_once('>')?.1.trim_start();
    }
    let rest = text.strip_prefix('<')?;
    let end = rest.find(|c: char| c.is_whitespace() || c == '>' || c == '/')?;
    Some(&rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x\"><Name>b</Name><Prefix>a/</Prefix>\
                         <KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>";

    #[test]
    fn a_listing_is_recognised() {
        assert!(
            is_list("list-type=2&prefix=a%2F")
                && is_list("restype=container&comp=list")
                && is_list("uploads")
        );
        assert!(!is_list("") && !is_list("uploadId=x"));
        check(EMPTY.as_bytes(), "list-type=2&prefix=a%2F").unwrap();
        let azure = "\u{feff}<?xml version=\"1.0\"?><EnumerationResults><Blobs /><NextMarker \
                     /></EnumerationResults>";
        check(azure.as_bytes(), "comp=list").unwrap();
    }

    #[test]
    fn listing_refuses_a_page_that_continues_with_itself() {
        let azure =
            "<EnumerationResults><Blobs /><NextMarker>m n</NextMarker></EnumerationResults>";
        check(azure.as_bytes(), "comp=list&marker=m").unwrap();
        assert!(check(azure.as_bytes(), "comp=list&marker=m%20n").unwrap_err().contains("itself"));
        assert!(is_empty_page(azure.as_bytes()) && !is_empty_page(EMPTY.as_bytes()));
        let next = "<Contents><Key>a/1</Key></Contents>\
                    <NextContinuationToken>t+1</NextContinuationToken></ListBucketResult>";
        let s3 = EMPTY.replace("</ListBucketResult>", next);
        check(s3.as_bytes(), "list-type=2&prefix=a/&continuation-token=t").unwrap();
        let query = "list-type=2&prefix=a/&continuation-token=t%2B1";
        assert!(check(s3.as_bytes(), query).unwrap_err().contains("itself"));
    }

    #[test]
    fn what_only_looks_empty_is_no_listing() {
        let grouped = EMPTY.replace("false", "true").replace(
            "</KeyCount>",
            "</KeyCount><CommonPrefixes><Prefix>a/b/</Prefix></CommonPrefixes>",
        );
        for (body, words) in [
            ("", "not XML"),
            ("OK", "not XML"),
            ("<!DOCTYPE html><html><body>Sign in</body></html>", "<html>"),
            ("<ListBucketResult/>", "truncated"),
            ("<ListBucketResult></ListBucketResult>", "IsTruncated"),
            (&EMPTY[..EMPTY.len() - 5], "truncated"),
            (&EMPTY.replace("a/", "other/"), "another prefix"),
            (&EMPTY.replace(">0<", ">3<"), "3 keys"),
            (&EMPTY.replace("false", "true"), "more follow"),
            ("<Error><Code>SlowDown</Code></Error>", "<Error>"),
            (&grouped, "more follow"),
        ] {
            let error = check(body.as_bytes(), "list-type=2&prefix=a/").unwrap_err();
            assert!(error.contains(words), "{body}: {error}");
        }
        check(grouped.as_bytes(), "list-type=2&prefix=a/&delimiter=/").unwrap();
    }
}
