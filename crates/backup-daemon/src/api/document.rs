//! The OpenAPI document, which is made from the routes; and what it says about who may use them,
//! which is what counts.

use std::collections::BTreeMap;

use axum::Router;
use axum::http::Method;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Ref,
    ResponseBuilder,
};
use utoipa_axum::router::OpenApiRouter;

use super::problem::ProblemJson;
use super::{Shared, routes};
use crate::tokens::Role;

/// What a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// Anybody may.
    Nothing,
    /// Whoever has any role: there is no such route, which is nobody else's business.
    Anything,
    /// Whoever has this role.
    Role(Role),
}

/// A method and the template of a path.
type Route = (String, String);

/// What is known of the routes.
#[derive(Debug)]
pub(super) struct Document {
    /// The document itself, as JSON.
    pub(super) json: String,
    needs: BTreeMap<Route, Need>,
    operations: BTreeMap<Route, String>,
}

impl Document {
    /// What a request takes. A route of which the document says nothing takes an admin.
    pub(super) fn need(&self, method: &Method, route: Option<&str>) -> Need {
        let Some(route) = route else { return Need::Anything };
        let method = if method == Method::HEAD { &Method::GET } else { method };
        match self.needs.get(&(method.as_str().to_ascii_lowercase(), route.to_owned())) {
            Some(need) => *need,
            None if self.needs.keys().any(|(_, known)| known == route) => Need::Anything,
            None => Need::Role(Role::Admin),
        }
    }

    /// What a request does, in words.
    pub(super) fn operation(&self, method: &Method, route: Option<&str>) -> String {
        let key = (method.as_str().to_ascii_lowercase(), route.unwrap_or_default().to_owned());
        self.operations
            .get(&key)
            .map_or_else(|| "unknown".to_owned(), |operation| operation.replace('_', " "))
    }
}

/// All routes, and what is known of them.
pub(super) fn document() -> (Router<Shared>, Document) {
    let (router, mut document) =
        OpenApiRouter::with_openapi(frame()).merge(routes::all()).split_for_parts();
    add_problems(&mut document);
    let value = serde_json::to_value(&document).unwrap_or_default();
    let (mut needs, mut operations) = (BTreeMap::new(), BTreeMap::new());
    for (path, item) in value["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let route = (method.clone(), path.clone());
            needs.insert(route.clone(), need(&operation["security"]));
            operations
                .insert(route, operation["operationId"].as_str().unwrap_or_default().to_owned());
        }
    }
    let json = serde_json::to_string_pretty(&value).unwrap_or_default() + "\n";
    (router, Document { json, needs, operations })
}

/// What a route takes by its entry. What cannot be understood takes an admin.
fn need(security: &serde_json::Value) -> Need {
    let Some([only]) = security.as_array().map(Vec::as_slice) else {
        return Need::Role(Role::Admin);
    };
    match only.as_object() {
        Some(nothing) if nothing.is_empty() => Need::Nothing,
        _ => Need::Role(only["token"][0].as_str().and_then(Role::named).unwrap_or(Role::Admin)),
    }
}

/// The document without its routes.
fn frame() -> OpenApi {
    let info = InfoBuilder::new()
        .title("backupd")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "API of the daemon of the backup system. The security scheme of each operation names \
             the required role. The roles are `auditor`, `operator` and `admin`; each includes the \
             rights of the roles before it. Users of the Unix socket are admins without a token.",
        ))
        .license(Some(LicenseBuilder::new().name("MIT OR Apache-2.0").build()));
    let token = SecurityScheme::Http(Http::builder().scheme(HttpAuthScheme::Bearer).build());
    let components = ComponentsBuilder::new().security_scheme("token", token);
    OpenApiBuilder::new()
        .info(info.build())
        .components(Some(components.schema_from::<ProblemJson>().build()))
        .build()
}

/// Every operation can fail, in one form.
fn add_problems(document: &mut OpenApi) {
    let problem = || {
        let content =
            ContentBuilder::new().schema(Some(Ref::from_schema_name("ProblemJson"))).build();
        let description = "Error: 400 invalid request; 401 token required; 403 role not \
                           sufficient; 404 not found; 409 conflict with the current state; 413 \
                           body too large; 429 too many requests (see `Retry-After`); 5xx server \
                           error";
        ResponseBuilder::new().description(description).content("application/json", content).build()
    };
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.delete, &mut item.put];
        for operation in operations.into_iter().flatten() {
            operation.responses.responses.insert("default".to_owned(), problem().into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_takes_an_admin() {
        let (_, document) = document();
        assert_eq!(document.need(&Method::GET, Some("/healthz")), Need::Nothing);
        assert_eq!(document.need(&Method::HEAD, Some("/metrics")), Need::Role(Role::Auditor));
        assert_eq!(document.need(&Method::PUT, Some("/metrics")), Need::Anything);
        assert_eq!(document.need(&Method::GET, None), Need::Anything);
        assert_eq!(document.need(&Method::GET, Some("/new")), Need::Role(Role::Admin));
        for (security, expected) in [
            ("null", Need::Role(Role::Admin)),
            ("[]", Need::Role(Role::Admin)),
            ("[{}]", Need::Nothing),
            ("[{},{\"token\":[]}]", Need::Role(Role::Admin)),
            ("[{\"token\":[\"operator\"]}]", Need::Role(Role::Operator)),
            ("[{\"token\":[\"boss\"]}]", Need::Role(Role::Admin)),
        ] {
            assert_eq!(need(&serde_json::from_str(security).unwrap()), expected, "{security}");
        }
    }

    #[test]
    fn every_operation_has_a_name_of_its_own_and_says_who_may() {
        let (_, document) = document();
        let names: std::collections::BTreeSet<_> = document.operations.values().collect();
        assert_eq!(names.len(), document.operations.len(), "{:?}", document.operations);
        let value: serde_json::Value = serde_json::from_str(&document.json).unwrap();
        for ((method, path), need) in &document.needs {
            let operation = &value["paths"][path][method];
            assert!(operation["security"].is_array(), "{method} {path}");
            assert!(operation["summary"].is_string(), "{method} {path}");
            if method != "get" {
                assert!(
                    *need >= Need::Role(Role::Operator),
                    "{method} {path}: an auditor changes nothing"
                );
            }
        }
    }

    /// The document in `docs/` is that of the routes; with UPDATE_DOCS it is written.
    #[test]
    fn the_reference_is_that_of_the_routes() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
        let (_, document) = document();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&file, &document.json).unwrap();
        }
        let written = std::fs::read_to_string(&file).unwrap();
        assert!(
            written == document.json,
            "docs/openapi.json is old: run this test with UPDATE_DOCS=1"
        );
    }
}
