//! Both forms of addresses that libpq takes: URLs, and `key=value` pairs.

use backup_core::source::SourceResult;

use super::super::error::invalid;

/// Parameters in their order; of several with one name the last one counts.
pub(super) type Pairs = Vec<(String, String)>;

/// The part of a URL behind `postgres://`, `postgresql://` or one of these with the name of a
/// driver, as in `postgresql+psycopg://`; `None` for any other text.
pub(super) fn in_url(address: &str) -> Option<&str> {
    let (scheme, rest) = address.split_once("://")?;
    let scheme = scheme.split_once('+').map_or(scheme, |(scheme, _)| scheme);
    let is_known = ["postgres", "postgresql"].iter().any(|one| scheme.eq_ignore_ascii_case(one));
    is_known.then_some(rest)
}

/// Of `user:password@host:port,host2/database?key=value`.
pub(super) fn url_pairs(rest: &str) -> SourceResult<Pairs> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let mut pairs = Pairs::new();
    if !user.is_empty() {
        let (user, password) =
            user.split_once(':').map_or((user, None), |(user, rest)| (user, Some(rest)));
        pairs.push(("user".to_owned(), decoded(user)?));
        if let Some(password) = password {
            pairs.push(("password".to_owned(), decoded(password)?));
        }
    }
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',') {
        let (name, port) = split_port(host)?;
        names.push(decoded(name)?);
        ports.push(port.to_owned());
    }
    pairs.push(("host".to_owned(), names.join(",")));
    pairs.push(("port".to_owned(), ports.join(",")));
    if !database.is_empty() {
        pairs.push(("dbname".to_owned(), decoded(database)?));
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| invalid("the address has a parameter without ="))?;
        pairs.push(in_libpq(decoded(key)?, decoded(value)?)?);
    }
    Ok(pairs)
}

/// A parameter by its name in libpq: drivers for other languages know `ssl=true`.
fn in_libpq(key: String, value: String) -> SourceResult<(String, String)> {
    if key != "ssl" {
        return Ok((key, value));
    }
    let mode = match &*value {
        "true" | "1" => "require",
        "false" | "0" => "disable",
        _ => return Err(invalid(format!("ssl {value:?} is unknown")).with_hint("use sslmode")),
    };
    Ok(("sslmode".to_owned(), mode.to_owned()))
}

/// Of `name`, `name:port`, `[v6]` and `[v6]:port`.
fn split_port(host: &str) -> SourceResult<(&str, &str)> {
    if let Some(rest) = host.strip_prefix('[') {
        let (name, port) =
            rest.split_once(']').ok_or_else(|| invalid("the address has [ without ]"))?;
        return Ok((name, port.strip_prefix(':').unwrap_or("")));
    }
    Ok(host.split_once(':').unwrap_or((host, "")))
}

/// Without its %-escapes.
fn decoded(text: &str) -> SourceResult<String> {
    let bad = || invalid("the address has an invalid %-escape");
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = [bytes.next().ok_or_else(bad)?, bytes.next().ok_or_else(bad)?];
        out.extend(hex::decode(digits).map_err(|_| bad())?);
    }
    String::from_utf8(out).map_err(|_| bad())
}

/// Of `key=value key='va\'lue'`.
pub(super) fn keyword_pairs(text: &str) -> SourceResult<Pairs> {
    let mut pairs = Pairs::new();
    let mut chars = text.trim().chars().peekable();
    while chars.peek().is_some() {
        let mut key = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=') {
            key.push(c);
        }
        let named = chars.next().is_some()
            && key.trim().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let (mut value, mut closed) = (String::new(), !quoted);
        while let Some(c) = chars.next() {
            match c {
                '\\' => value.extend(chars.next()),
                '\'' if quoted => {
                    closed = true;
                    break;
                }
                c if c.is_whitespace() && !quoted => break,
                c => value.push(c),
            }
        }
        if !closed || !named || key.trim().is_empty() {
            return Err(invalid("the address cannot be parsed")
                .with_hint("write postgres://user@host:port/database or host=… user=…"));
        }
        pairs.push((key.trim().to_owned(), value));
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
    }
    Ok(pairs)
}
