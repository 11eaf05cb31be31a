//! Requests to a daemon, and what their answers mean.

use std::time::Duration;

use backup_control::remote::Address;
use backup_core::error::{Error as CoreError, ErrorKind};
use backup_storage::http;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use url::Url;

use super::Server;
use crate::command_error::{CommandError, CommandResult, Kind};
use crate::human;
use crate::session::Session;

/// How long an answer may take: the daemon gives itself less.
const PATIENCE: Duration = Duration::from_secs(180);
/// Bytes of an answer, at most.
const MOST: usize = 64 << 20;

/// A daemon that can be asked.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    /// What it is called.
    shown: String,
    /// What it was called by; none: it is that of this machine.
    name: Option<String>,
    token: Option<HeaderValue>,
    has_ca_file: bool,
}

impl Client {
    pub(super) fn new(session: &Session, server: &Server) -> CommandResult<Self> {
        let ca_file = server.ca_file.as_deref();
        let made = match &server.address {
            Address::Socket(_) if ca_file.is_some() => {
                return Err(CommandError::usage("a Unix socket has no certificate to check")
                    .with_hint(
                        "leave out --ca-file, or `ca_file` of the server in the configuration",
                    ));
            }
            Address::Socket(socket) => http::client_of_machine(None, Some(socket)),
            address if address.is_this_machine() => http::client_of_machine(ca_file, None),
            Address::Web(_) => http::client(ca_file, &session.env.texts().collect()),
        };
        let http = made.map_err(CommandError::usage)?;
        let base = match &server.address {
            Address::Web(url) => Ok(url.clone()),
            Address::Socket(_) => Url::parse("http://localhost"),
        };
        Ok(Self {
            http,
            base: base.map_err(|error| CommandError::usage(error.to_string()))?,
            shown: server.address.to_string(),
            name: server.name.clone(),
            token: server.token.clone(),
            has_ca_file: ca_file.is_some(),
        })
    }

    /// The flag that names it again, for commands that are suggested.
    pub(super) fn flag(&self) -> String {
        self.name
            .as_ref()
            .map(|name| format!(" --server {}", human::shell(name)))
            .unwrap_or_default()
    }

    pub(super) async fn get(
        &self,
        session: &Session,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> CommandResult<Value> {
        self.ask(session, self.request(Method::GET, path, query)?).await
    }

    pub(super) async fn post(
        &self,
        session: &Session,
        path: &[&str],
        body: &Value,
    ) -> CommandResult<Value> {
        let request =
            self.request(Method::POST, path, &[])?.header(CONTENT_TYPE, "application/json");
        self.ask(session, request.body(body.to_string())).await
    }

    pub(super) async fn delete(&self, session: &Session, path: &[&str]) -> CommandResult<Value> {
        self.ask(session, self.request(Method::DELETE, path, &[])?).await
    }

    /// What happens from now on, as server-sent events.
    pub(super) async fn events(&self) -> CommandResult<Response> {
        let request = self.request(Method::GET, &["api", "v1", "events"], &[])?;
        // Without a limit for all of it: it goes on as long as there is something to be said.
        let begun = async {
            let response = request.send().await.map_err(|error| self.unreachable(error))?;
            if response.status().is_success() {
                Ok(response)
            } else {
                Err(self.problem(response).await)
            }
        };
        tokio::time::timeout(PATIENCE, begun).await.unwrap_or_else(|_| Err(self.silent()))
    }

    fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> CommandResult<RequestBuilder> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.request(method, url);
        Ok(match &self.token {
            Some(token) => request.header(AUTHORIZATION, token.clone()),
            None => request,
        })
    }

    async fn ask(&self, session: &Session, request: RequestBuilder) -> CommandResult<Value> {
        let asked = async {
            let response =
                request.timeout(PATIENCE).send().await.map_err(|error| self.unreachable(error))?;
            if !response.status().is_success() {
                return Err(self.problem(response).await);
            }
            let body = self.body(response).await?;
            serde_json::from_slice(&body).map_err(|_| self.strange())
        };
        tokio::select! {
            answer = asked => answer,
            () = session.cx.cancel.cancelled() => Err(CoreError::cancelled().into()),
        }
    }

    async fn body(&self, mut response: Response) -> CommandResult<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            if body.len() + piece.len() > MOST {
                return Err(self.strange());
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    /// It is not reached, or goes away in the middle.
    fn unreachable(&self, error: reqwest::Error) -> CommandError {
        let error = error.without_url();
        let shown = CommandError::from_error(Kind::Core(ErrorKind::Unavailable), &error);
        let is_unknown = shown.chain().contains("certificate");
        let failed = shown.context(format!("cannot reach the daemon at {}", self.shown));
        failed.with_hint(match (is_unknown, self.has_ca_file) {
            (true, false) => "name the file with the daemon's certificate authority with --ca-file",
            (true, true) => {
                "check that --ca-file holds the daemon's certificate authority, and that the host \
                 name is correct"
            }
            _ => {
                "check that `backupd` runs there, and that `[api]` of its configuration sets \
                 `listen`"
            }
        })
    }

    /// It takes the request, and says nothing.
    fn silent(&self) -> CommandError {
        CommandError::new(
            Kind::Core(ErrorKind::Unavailable),
            format!("{} does not answer", self.shown),
        )
        .with_hint("check the log of `backupd`, which may hang")
    }

    /// Something answers that is no daemon.
    fn strange(&self) -> CommandError {
        CommandError::new(
            Kind::Core(ErrorKind::Unavailable),
            format!("{} does not answer like a backup daemon", self.shown),
        )
        .with_hint(
            "check the address; another service or a daemon of another version may answer there",
        )
    }

    /// What a status means.
    async fn problem(&self, response: Response) -> CommandError {
        let (status, wait) = (response.status(), retry_after(response.headers()));
        let body = match self.body(response).await {
            Ok(body) => body,
            Err(error) => return error,
        };
        let Ok(said) = serde_json::from_slice::<Value>(&body) else { return self.strange() };
        let Some(message) = said["error"].as_str() else { return self.strange() };
        let kind = match status {
            StatusCode::UNAUTHORIZED => Kind::Config,
            StatusCode::FORBIDDEN => Kind::Refused,
            StatusCode::NOT_FOUND => Kind::Core(ErrorKind::NotFound),
            StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS => Kind::Core(ErrorKind::Busy),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                Kind::Core(ErrorKind::Unavailable)
            }
            status if status.is_client_error() => Kind::Usage,
            _ => Kind::Io,
        };
        let error = CommandError::new(kind, human::text(message.as_bytes()));
        match (status, wait, said["hint"].as_str()) {
            (StatusCode::UNAUTHORIZED, ..) => error.with_hint(
                "give a valid token in BACKUP_TOKEN or --token-file; create one with `backupd \
                 token create` on the daemon's machine",
            ),
            (_, Some(seconds), _) => error.with_hint(format!("try again in {seconds} s")),
            (_, None, Some(hint)) => error.with_hint(human::text(hint.as_bytes())),
            _ => error,
        }
    }
}

fn retry_after(headers: &HeaderMap) -> Option<u64> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()
}
