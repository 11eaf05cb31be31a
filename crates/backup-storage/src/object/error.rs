//! Errors, with what to do about them.

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::sink::{Operation, SinkError, SinkErrorKind};

use super::Kind;
use crate::credentials::{NONE_FOUND, UNSET};
use crate::wire::{Refusal, WireError};

/// The store refuses the credentials, or none are found: source of a [`SinkError`]. Other
/// credentials help, and nothing else.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RefusedCredentials(String);

impl RefusedCredentials {
    /// True if refused credentials are among the causes of an error.
    #[must_use]
    pub fn caused(error: &(dyn std::error::Error + 'static)) -> bool {
        std::iter::successors(Some(error), |error| error.source())
            .any(|error| error.downcast_ref::<Self>().is_some())
    }

    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Where it happened, as far as hints depend on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) bucket: &'a str,
    pub(crate) kind: Kind,
    /// A key of SSE-C goes with the requests.
    pub(crate) customer_key: bool,
    /// New objects are to be locked.
    pub(crate) locks: bool,
}

/// From an error of `object_store` (with one of ours inside) to one of sinks. No secret is in
/// either.
pub(crate) fn map(
    place: Place<'_>,
    error: &object_store::Error,
    operation: Operation,
    what: &str,
) -> SinkError {
    let words = error.to_string();
    if words.contains(TOKEN_REQUEST) {
        return without_token(place, error, &words, operation, what);
    }
    if let Some(error) = WireError::find(error) {
        return map_wire(place, error, operation, what);
    }
    let reads = matches!(operation, Operation::Get | Operation::Head | Operation::List);
    let kind = match error {
        object_store::Error::NotFound { .. } => SinkErrorKind::NotFound,
        object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. } => {
            SinkErrorKind::Unsupported
        }
        object_store::Error::InvalidPath { .. } => SinkErrorKind::Invalid,
        // An answer that makes no sense; the next one may.
        _ if reads => SinkErrorKind::Unavailable,
        _ => SinkErrorKind::Other,
    };
    let mapped = SinkError::on(kind, operation, what).with_source(words);
    if reads { mapped.without_effect() } else { mapped }
}

/// The library's words for a token that it did not get; its type for that is its own secret.
const TOKEN_REQUEST: &str = "Error performing token request";

/// Google's and Azure's services give tokens to those who are known to them, and to machines:
/// whoever has set nothing ends at the latter.
fn without_token(
    place: Place<'_>,
    error: &object_store::Error,
    words: &str,
    operation: Operation,
    what: &str,
) -> SinkError {
    let refused = ["400", "401", "403", "404"]
        .iter()
        .any(|code| words.contains(&format!("status code: {code}")));
    let kind = if refused { SinkErrorKind::PermissionDenied } else { SinkErrorKind::Unavailable };
    let why = format!("cannot get a token for the store: {}", WireError::words_of(error));
    let mapped = SinkError::on(kind, operation, what);
    let mapped = match refused {
        true => mapped.with_source(RefusedCredentials::new(why)),
        false => mapped.with_source(why),
    };
    mapped.with_hint(credentials(place.kind)).without_effect()
}

fn credentials(kind: Kind) -> &'static str {
    match kind {
        Kind::S3 => CREDENTIALS,
        Kind::Gcs => GOOGLE_CREDENTIALS,
        Kind::Azure => AZURE_CREDENTIALS,
    }
}

/// Like [`map`] for requests that are not `object_store`'s.
pub(crate) fn map_wire(
    place: Place<'_>,
    error: &WireError,
    operation: Operation,
    what: &str,
) -> SinkError {
    use SinkErrorKind::{Invalid, Other, PermissionDenied, Unavailable};
    let reads = matches!(operation, Operation::Get | Operation::Head | Operation::List);
    let place = Place {
        locks: place.locks && matches!(operation, Operation::Put | Operation::Upload),
        ..place
    };
    let (kind, happened, hint) = match error {
        WireError::Refused(refusal) => {
            let kind = refused(refusal);
            let certain = (300..500).contains(&refusal.status) && kind != Unavailable
                || matches!(refusal.status, 400 | 429)
                || refusal.code == "SlowDown";
            (kind, !certain, hint(place, refusal))
        }
        WireError::Stalled(_) | WireError::Broken(_) => (Unavailable, true, None),
        WireError::Response(_) | WireError::Checksum => (Unavailable, true, None),
        // It stays until a person signs in, or corrects the address.
        WireError::Page(_) => (Other, false, Some(LISTING.to_owned())),
        WireError::Listing(_) => (Unavailable, false, Some(LISTING.to_owned())),
        WireError::Connect(_) => (Unavailable, false, Some(CONNECT.to_owned())),
        WireError::UnknownHost(_) => (Unavailable, false, Some(UNKNOWN_HOST.to_owned())),
        WireError::Certificate(_) => (Other, false, Some(CERTIFICATE.to_owned())),
        WireError::NoTls => (Other, false, Some(NO_TLS.to_owned())),
        WireError::PlainHttp => (Invalid, false, Some(PLAIN_HTTP.to_owned())),
        WireError::Request(_) => (Other, false, None),
        WireError::Credentials(_) => {
            (PermissionDenied, false, Some(credentials(place.kind).to_owned()))
        }
    };
    let refused_credentials = match error {
        WireError::Refused(refusal) => are_credentials_refused(refusal),
        WireError::Credentials(text) => text.starts_with(NONE_FOUND) || text.contains(UNSET),
        _ => false,
    };
    let mapped = SinkError::on(kind, operation, what);
    let mut mapped = match refused_credentials {
        true => mapped.with_source(RefusedCredentials::new(error.to_string())),
        false => mapped.with_source(error.to_string()),
    };
    if let Some(hint) = hint {
        mapped = mapped.with_hint(hint);
    }
    if reads || !happened { mapped.without_effect() } else { mapped }
}

const LISTING: &str = "check for a proxy or a sign-in page that answers in place of the store";
const CONNECT: &str = "check the endpoint, the network and the proxy";
const UNKNOWN_HOST: &str =
    "check the endpoint, the region and the bucket name, which are parts of the host name";
const CERTIFICATE: &str =
    "set ca_file to a PEM file with the certificate authority that signed the server's certificate";
const PLAIN_HTTP: &str =
    "use an https:// endpoint, or set allow_http = true if the network is trusted";
const NO_TLS: &str = "check the port of the endpoint; for a plain http server on a trusted \
                      network, write http:// and set allow_http = true";
const NO_LOCKS: &str = "enable object lock for the bucket, which some stores allow only at its \
                        creation, or remove lock_days";
const TLS: &str = "write the endpoint with https://: the server speaks https at this port";
pub(super) const GOOGLE_CREDENTIALS: &str = "set service_account, or \
                                             GOOGLE_APPLICATION_CREDENTIALS in the environment, to \
                                             the JSON file of a service account";
pub(super) const AZURE_CREDENTIALS: &str = "set AZURE_STORAGE_ACCOUNT_KEY in the environment (or \
                                            name another variable in account_key_env), or \
                                            AZURE_STORAGE_SAS_TOKEN, or AZURE_CLIENT_ID, \
                                            AZURE_TENANT_ID and AZURE_CLIENT_SECRET";
const CREDENTIALS: &str = "set access_key_id and secret_access_key_file, or profile, or \
                           AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment";

fn refused(refusal: &Refusal) -> SinkErrorKind {
    use SinkErrorKind::{
        AlreadyExists, Archived, Invalid, NotFound, Other, PermissionDenied, StorageFull,
        Unavailable, Unsupported,
    };
    match &*refusal.code {
        "NoSuchBucket" | "ContainerNotFound" | "NoSuchUpload" => return Other,
        "InvalidObjectState" | "BlobArchived" => return Archived,
        "RequestTimeTooSkewed" | "PermanentRedirect" | "AuthorizationHeaderMalformed" => {
            return Other;
        }
        "ExpiredToken" | "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" => {
            return PermissionDenied;
        }
        "AccessDenied" | "AllAccessDisabled" => return PermissionDenied,
        "QuotaExceeded" | "XMinioStorageFull" | "InsufficientCapacity" => return StorageFull,
        "NotImplemented" | "MethodNotAllowed" | "ObjectLockConfigurationNotFoundError" => {
            return Unsupported;
        }
        "ExistingObjectIsDirectory" | "ExistingObjectIsFile" => return Invalid,
        // Damaged on the way, or over too slowly.
        "BadDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch" => {
            return Unavailable;
        }
        "RequestTimeout" | "SlowDown" | "InternalError" | "OperationAborted" | "ServerBusy" => {
            return Unavailable;
        }
        _ => {}
    }
    match refusal.status {
        404 => NotFound,
        304 | 412 => AlreadyExists,
        416 => Invalid,
        401 | 403 => PermissionDenied,
        405 | 501 => Unsupported,
        507 => StorageFull,
        408 | 429 | 500..=599 => Unavailable,
        _ => Other,
    }
}

/// True if the credentials are unknown to the store, or no longer accepted. Missing rights of
/// known credentials are another matter.
fn are_credentials_refused(refusal: &Refusal) -> bool {
    let is_of_azure = matches!(&*refusal.code, "AuthenticationFailed" | "AuthorizationFailure")
        && refusal.message.contains("failed to authenticate");
    refusal.is_about_credentials() || is_of_azure
}

/// What the user can do.
fn hint(place: Place<'_>, refusal: &Refusal) -> Option<String> {
    let bucket = place.bucket;
    let hint = match (&*refusal.code, refusal.status) {
        ("RequestTimeTooSkewed", _) => skewed(refusal),
        ("NoSuchBucket" | "ContainerNotFound", _) => {
            format!("create the bucket {bucket:?}, or check its name, the endpoint and the account")
        }
        (
            "AuthorizationHeaderMalformed"
            | "PermanentRedirect"
            | "IllegalLocationConstraintException",
            _,
        )
        | ("", 301) => match &refusal.region {
            Some(region) => format!("set region = {region:?}: the bucket is in that region"),
            None => "set region to the region of the bucket, which is another one".to_owned(),
        },
        ("ExpiredToken" | "TokenRefreshRequired", _) => {
            let names = origin(place, refusal);
            format!("renew {names} at the source: they have expired, and no newer ones were found")
        }
        ("InvalidAccessKeyId", _) => {
            format!("check {}: the store has no such access key", origin(place, refusal))
        }
        ("SignatureDoesNotMatch", _) => {
            let names = origin(place, refusal);
            format!("check {names}: the secret does not match the access key")
        }
        ("AuthenticationFailed" | "AuthorizationFailure", _)
            if refusal.message.contains("failed to authenticate") =>
        {
            "check that AZURE_STORAGE_ACCOUNT_KEY (or the variable that account_key_env names) or \
             AZURE_STORAGE_SAS_TOKEN belongs to the account: the store does not accept it"
                .to_owned()
        }
        // What to do about archives is known where objects are restored.
        ("InvalidObjectState" | "BlobArchived", _) => return None,
        ("AccessDenied", _) | ("AuthorizationPermissionMismatch", _) | (_, 403) => denied(place),
        (_, 401) => {
            let names = origin(place, refusal);
            format!("check {names}: the credentials are missing, wrong or expired")
        }
        ("", 400) if refusal.message.contains("HTTPS") => TLS.to_owned(),
        (_, 400) if let Some(hint) = sealed(place, refusal) => hint,
        ("InvalidRequest", 400) if place.locks => NO_LOCKS.to_owned(),
        _ => return skew(refusal).filter(|skew| skew.abs() > 900).map(|_| skewed(refusal)),
    };
    Some(hint)
}

/// The settings, variables or service that refused credentials come from.
fn origin(place: Place<'_>, refusal: &Refusal) -> String {
    match (&refusal.credentials, place.kind) {
        (Some(names), _) => names.clone(),
        (None, Kind::S3) => {
            "access_key_id, the profile or AWS_ACCESS_KEY_ID, and the secret access key".to_owned()
        }
        (None, Kind::Gcs) => "service_account or GOOGLE_APPLICATION_CREDENTIALS".to_owned(),
        (None, Kind::Azure) => {
            "account_key_env, AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN".to_owned()
        }
    }
}

fn denied(Place { bucket, kind, customer_key, .. }: Place<'_>) -> String {
    let (right, role) = match kind {
        Kind::S3 => ("s3:GetObject, s3:PutObject and s3:ListBucket", "the policy"),
        Kind::Gcs => ("storage.objects.get, create and list", "the role"),
        Kind::Azure => ("read, write and list", "the role or signature"),
    };
    let rights = format!(
        "let {role} of the credentials allow {right} on {bucket:?} under this prefix (and \
         deletion, for prune)"
    );
    // A wrong key and a missing right look the same: stores tell no stranger which of them it is.
    if customer_key { format!("{OTHER_KEY}; if it does, {rights}") } else { rights }
}

const OTHER_KEY: &str =
    "check that customer_key_file holds the key with which these objects were stored";

/// What to do where a store does not take an object's key (SSE-C), or misses it. Stores have no
/// code for that.
fn sealed(place: Place<'_>, refusal: &Refusal) -> Option<String> {
    let message = refusal.message.to_ascii_lowercase();
    let is_about_keys = message.contains("customer") || message.contains("encryption");
    if place.kind != Kind::S3 || !is_about_keys {
        return None;
    }
    Some(match place.customer_key {
        _ if message.contains("secure connection") => {
            "use an https:// endpoint: the store accepts customer_key_file over https only"
                .to_owned()
        }
        true => format!("{OTHER_KEY}, and that they were stored with such a key at all"),
        false => "set sse = \"customer\", and customer_key_file to the file with the key: the \
                  objects were stored with a customer key"
            .to_owned(),
    })
}

/// By how many seconds this machine's clock is ahead of the store's.
fn skew(refusal: &Refusal) -> Option<i64> {
    refusal.server_time.map(|server| SystemClock.now().as_second() - server.as_second())
}

fn skewed(refusal: &Refusal) -> String {
    match skew(refusal) {
        Some(0) | None => "synchronise the clock of this machine, which is wrong".to_owned(),
        Some(ahead) => {
            let by = jiff::SignedDuration::from_secs(ahead.abs());
            let way = if ahead > 0 { "ahead of" } else { "behind" };
            format!(
                "synchronise the clock of this machine, which is {way} the clock of the store by \
                 {by:#}"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(refusal: Refusal, operation: Operation) -> SinkError {
        map_wire(PLACE, &refusal.into(), operation, "data/x")
    }

    const PLACE: Place<'static> =
        Place { bucket: "bkt", kind: Kind::S3, customer_key: false, locks: false };

    #[test]
    fn a_key_of_the_customer_is_named_where_it_may_be_wrong() {
        let hint = |place, status, code: &str, message: &str| {
            let refusal = Refusal {
                status,
                code: code.to_owned(),
                message: message.to_owned(),
                ..Refusal::default()
            };
            hint(place, &refusal).unwrap_or_default()
        };
        let with_key = Place { customer_key: true, ..PLACE };
        for (place, status, code, message, words) in [
            (
                PLACE,
                400,
                "InvalidRequest",
                "stored using a form of Server Side Encryption",
                "set sse = \"customer\"",
            ),
            (with_key, 403, "AccessDenied", "Access Denied", "s3:GetObject"),
            // Answers to HEAD have no body.
            (with_key, 403, "", "", "s3:GetObject"),
            (
                with_key,
                400,
                "InvalidRequest",
                "The encryption parameters are not applicable",
                "stored with such a key at all",
            ),
            (
                with_key,
                400,
                "InvalidArgument",
                "with Customer keys must use a secure connection",
                "https",
            ),
        ] {
            let hint = hint(place, status, code, message);
            assert!(hint.contains("customer_key_file") && hint.contains(words), "{hint}");
        }
        assert!(!hint(PLACE, 403, "AccessDenied", "").contains("customer_key_file"));
        assert_eq!(hint(with_key, 400, "InvalidRequest", "the name is too long"), "");
        let google = Place { kind: Kind::Gcs, ..PLACE };
        assert_eq!(hint(google, 400, "InvalidRequest", "Encryption"), "");
    }

    #[test]
    fn codes_have_kinds_and_fixes() {
        use SinkErrorKind::{
            Archived, NotFound, Other, PermissionDenied, StorageFull, Unavailable,
        };
        let skewed = Some(SystemClock.now() - jiff::SignedDuration::from_secs(7200));
        for (status, code, kind, words) in [
            (403, "RequestTimeTooSkewed", Other, "ahead of the clock of the store by 2h"),
            (404, "NoSuchBucket", Other, "create the bucket \"bkt\""),
            (404, "NoSuchKey", NotFound, ""),
            (400, "AuthorizationHeaderMalformed", Other, "region = \"eu-9\""),
            (301, "", Other, "region = \"eu-9\""),
            (400, "ExpiredToken", PermissionDenied, "expired"),
            (403, "InvalidAccessKeyId", PermissionDenied, "access key"),
            (403, "SignatureDoesNotMatch", PermissionDenied, "secret"),
            (403, "AccessDenied", PermissionDenied, "s3:ListBucket"),
            (403, "InvalidObjectState", Archived, ""),
            (409, "BlobArchived", Archived, ""),
            (507, "", StorageFull, ""),
            (503, "SlowDown", Unavailable, ""),
            (400, "RequestTimeout", Unavailable, ""),
            (200, "InternalError", Unavailable, ""),
        ] {
            let refusal = Refusal {
                status,
                code: code.to_owned(),
                region: Some("eu-9".to_owned()),
                server_time: if code.contains("Skew") { skewed } else { None },
                ..Refusal::default()
            };
            let error = mapped(refusal, Operation::Put);
            assert_eq!(error.kind(), kind, "{code}");
            assert!(error.hint().unwrap_or_default().contains(words), "{code}: {:?}", error.hint());
            assert!(kind != Archived || error.hint().is_none(), "it would hide that of the core");
        }
    }

    #[test]
    fn a_bucket_without_locks_is_told_from_other_requests_that_are_invalid() {
        let hint = |locks, operation| {
            let refusal =
                Refusal { status: 400, code: "InvalidRequest".to_owned(), ..Refusal::default() };
            let error = map_wire(Place { locks, ..PLACE }, &refusal.into(), operation, "data/x");
            error.hint().unwrap_or_default().to_owned()
        };
        assert!(
            hint(true, Operation::Put).contains("object lock")
                && hint(true, Operation::Upload).contains("object lock")
        );
        assert_eq!(hint(false, Operation::Put) + &hint(true, Operation::Get), "");
    }

    #[test]
    fn an_effect_is_denied_only_where_there_was_none() {
        use backup_core::sink::Effect;
        let refusal = |status| Refusal { status, ..Refusal::default() };
        assert_eq!(mapped(refusal(500), Operation::Put).effect(), Effect::Unknown);
        assert_eq!(mapped(refusal(500), Operation::Get).effect(), Effect::None);
        assert_eq!(mapped(refusal(403), Operation::Put).effect(), Effect::None);
        assert_eq!(mapped(refusal(408), Operation::Put).effect(), Effect::Unknown);
    }
}
