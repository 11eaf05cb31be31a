//! Users and roles: compared with those of the target before anything is written, added by the
//! server, and replaced one by one where they differ.
//!
//! The user that the restore is authenticated as, and the roles that this user has, are never
//! replaced: the restore would lose its own rights.

use std::collections::{HashMap, HashSet};

use backup_core::context::Context;
use backup_core::event::WarningKind;
use backup_core::source::{
    ExistingObject, IfExists, PlannedObject, RestoreReport, RestoreRequest, SourceError,
    SourceErrorKind, SourceResult,
};
use bson::{Bson, Document, RawBson, RawDocumentBuf, doc};
use futures::TryStreamExt as _;

use super::command::with_documents;
use super::equal::same;
use super::loader::{Loaded, Loader};
use super::target::loading_name;
use crate::mongodb::catalog::Collection;
use crate::mongodb::dump::Dump;
use crate::mongodb::error::{Explain as _, code, code_of, is_denied, malformed, without_values};
use crate::mongodb::fold::{Folded, Live};
use crate::mongodb::namespace::Namespace;
use crate::mongodb::parsed::parsed;
use crate::mongodb::raw;
use crate::mongodb::server::{Server, unless_cancelled};

/// How to restore beside users and roles that differ.
const USERS_STAY: &str = "replace these users and roles with --if-exists replace, or leave all \
                          users and roles out (--no-users)";

/// How to get the users and roles that a restore has left.
const OWN_STAY: &str = "restore it as another user";

/// Users or roles of the snapshot that differ from those of the same name at the target.
#[derive(Debug, Default)]
struct Differing {
    /// May be replaced.
    others: Vec<RawDocumentBuf>,
    /// Names of the connected user and of this user's roles.
    own: Vec<String>,
}

/// Users and roles that a restore writes.
#[derive(Debug, Default)]
pub(super) struct UsersPlan {
    objects: Vec<PlannedObject>,
    /// Users and roles that differ at the target, for instance `user shop.clerk`.
    replaced: Vec<String>,
    /// Number of users and roles that differ and stay as they are at the target.
    kept: u64,
}

impl UsersPlan {
    /// Adds the replaced ones and the number of kept ones to the report; returns all by name.
    pub(super) fn into_report(self, report: &mut RestoreReport) -> Vec<PlannedObject> {
        report.warnings += self.kept;
        report.replaced_users = self.replaced;
        self.objects
    }

    /// Takes over users or roles of the snapshot, and warns of those that are not replaced.
    fn add(
        &mut self,
        cx: &Context,
        word: &str,
        documents: &[RawDocumentBuf],
        differing: &Differing,
    ) {
        let replaced: HashSet<String> = differing.others.iter().map(name_of).collect();
        for name in documents.iter().map(name_of).filter(|name| !differing.own.contains(name)) {
            let existing = replaced.contains(&name).then(ExistingObject::default);
            self.objects.push(PlannedObject { kind: word.to_owned(), name, count: None, existing });
        }
        let others = differing.others.iter().map(|one| format!("{word} {}", name_of(one)));
        self.replaced.extend(others);
        for name in &differing.own {
            self.kept += 1;
            let text = format!(
                "this {word} differs from the snapshot and is not replaced, because this restore \
                 runs with its rights: {OWN_STAY}"
            );
            cx.events.warn(WarningKind::Other, format!("{word} {name}"), text);
        }
    }
}

/// Compares the users and roles of the snapshot with those of the target, before anything is
/// written. With [`IfExists::Fail`], refuses any that differ; else warns of those that stay.
pub(super) async fn compare(
    cx: &Context,
    server: &Server,
    (dump, folded): (&Dump, &Folded),
    wanted: &[(Live, Collection)],
    if_exists: IfExists,
) -> SourceResult<UsersPlan> {
    let mut plan = UsersPlan::default();
    for (live, collection) in
        wanted.iter().filter(|(_, collection)| collection.namespace.is_authorization())
    {
        let mut dumped = Vec::new();
        if let Some(mut reading) = dump.documents(live)? {
            while let Some(document) = unless_cancelled(cx, reading.next()).await? {
                dumped.push(document);
            }
        }
        let documents = folded.users(live, dumped)?;
        let documents = documents.iter().map(|bytes| Ok(raw::document(bytes)?.to_owned()));
        let documents = documents.collect::<SourceResult<Vec<_>>>()?;
        let namespace = &collection.namespace;
        let differing = unless_cancelled(cx, differing(server, namespace, &documents)).await?;
        if if_exists == IfExists::Fail {
            differing.refuse(namespace)?;
        }
        plan.add(cx, word(namespace), &documents, &differing);
    }
    Ok(plan)
}

/// Has the server add users or roles, then replaces those that differ.
pub(super) async fn restore(
    cx: &Context,
    server: &Server,
    namespace: &Namespace,
    request: &RestoreRequest,
    loader: Loader,
) -> SourceResult<Loaded> {
    let loading = loading_name(namespace);
    let wanted = loader.waiting()?;
    let differing = unless_cancelled(cx, differing(server, namespace, &wanted)).await?;
    if request.if_exists == IfExists::Fail {
        // Made since the others were compared.
        differing.refuse(namespace)?;
    }
    let merged = match loader.finish().await {
        Ok(loaded) => {
            unless_cancelled(cx, merge(server, namespace, &loading)).await.map(|()| loaded)
        }
        Err(error) => Err(error),
    };
    // Also after a failure: password hashes must not be left where everybody who reads `admin`
    // finds them.
    let dropped = server.write("admin", doc! { "drop": &loading.name }).await;
    let mut loaded = merged?;
    match dropped {
        Err(error) if code_of(&error) != Some(code::NAMESPACE_NOT_FOUND) => {
            return Err(error).writing(format_args!("cannot drop {loading}"));
        }
        _ => {}
    }
    for document in &differing.others {
        unless_cancelled(cx, replace(server, namespace, document)).await?;
    }
    if request.verify {
        unless_cancelled(cx, read_back(server, namespace, &wanted, &differing.own)).await?;
        loaded.verified = loaded.sum.bytes;
    }
    Ok(loaded)
}

/// Has the server take users or roles over from a collection of their own. Those of the same names
/// that exist stay as they are.
async fn merge(server: &Server, namespace: &Namespace, loading: &Namespace) -> SourceResult<()> {
    let field = if namespace.name == "system.users" {
        "tempUsersCollection"
    } else {
        "tempRolesCollection"
    };
    let command =
        doc! { "_mergeAuthzCollections": 1, field: loading.to_string(), "db": "", "drop": false };
    server.write("admin", command).await.writing(format_args!("cannot restore {namespace}"))?;
    Ok(())
}

/// Replaces one user or role. The server's own command for that would also remove all users that it
/// is not given.
async fn replace(
    server: &Server,
    namespace: &Namespace,
    document: &RawDocumentBuf,
) -> SourceResult<()> {
    let doing = format!("cannot replace {} {}", word(namespace), name_of(document));
    if namespace.name == "system.roles" {
        let role = parsed(document, "role")?;
        let db = role.get_str("db").map_err(|_| malformed("role: no database"))?;
        server.write(db, update_of(&role)).await.writing(&doing)?;
        return Ok(());
    }
    // No command of the server takes the credentials of a user as they are stored.
    let mut query = RawDocumentBuf::new();
    query.append(bson::cstr!("_id"), RawBson::String(name_of(document)));
    let mut change = RawDocumentBuf::new();
    change.append(bson::cstr!("q"), query);
    change.append(bson::cstr!("u"), document.clone());
    let head = doc! { "update": &namespace.name, "writeConcern": { "w": "majority" } };
    let command = with_documents(&head, "updates", &[change.into_bytes().into()])?;
    let reply = server.write_raw(&namespace.db, command).await.writing(&doing)?;
    match reply.get_array("writeErrors").ok().and_then(|errors| errors.first()?.as_document()) {
        None => Ok(()),
        Some(error) => {
            let message = error.get_str("errmsg").unwrap_or_default();
            Err(SourceError::new(
                SourceErrorKind::Target,
                format!("{doing}: {}", without_values(message)),
            ))
        }
    }
}

/// The command that gives a role the content of a stored one. Roles are not written as documents:
/// the built-in roles for a restore do not allow it.
fn update_of(role: &Document) -> Document {
    let list = |field| Bson::Array(role.get_array(field).cloned().unwrap_or_default());
    doc! {
        "updateRole": role.get_str("role").unwrap_or_default(),
        "privileges": list("privileges"),
        "roles": list("roles"),
        "authenticationRestrictions": list("authenticationRestrictions"),
        "writeConcern": { "w": "majority" },
    }
}

/// Reads users or roles back, except for those that were left; others may be there too.
async fn read_back(
    server: &Server,
    namespace: &Namespace,
    wanted: &[RawDocumentBuf],
    own: &[String],
) -> SourceResult<()> {
    let there = documents(server, namespace, wanted).await?;
    let differs = |document: &&RawDocumentBuf| {
        let is_there = there.get(&name_of(document)).is_some_and(|other| same(other, document));
        !is_there && !own.contains(&name_of(document))
    };
    let Some(other) = wanted.iter().find(differs) else { return Ok(()) };
    let text =
        format!("{namespace}: {} at the target differs from the restored one", name_of(other));
    Err(SourceError::new(SourceErrorKind::Mismatch, text)
        .with_hint("check for other clients that change users or roles at the target"))
}

/// The users or roles of the target by name; at least those of `wanted` that exist there.
async fn documents(
    server: &Server,
    namespace: &Namespace,
    wanted: &[RawDocumentBuf],
) -> SourceResult<HashMap<String, RawDocumentBuf>> {
    let collection =
        server.client.database(&namespace.db).collection::<RawDocumentBuf>(&namespace.name);
    let found = async { collection.find(doc! {}).await?.try_collect::<Vec<_>>().await };
    let found = match server.within(found).await {
        // Roles may be read by a command only.
        Err(error) if is_denied(&error) && namespace.name == "system.roles" => {
            roles(server, wanted).await?
        }
        other => other.writing(format_args!("cannot read {namespace}"))?,
    };
    Ok(found.into_iter().map(|document| (name_of(&document), document)).collect())
}

/// Roles of the target, as they would be stored.
async fn roles(server: &Server, wanted: &[RawDocumentBuf]) -> SourceResult<Vec<RawDocumentBuf>> {
    let text = |role: &RawDocumentBuf, field| role.get_str(field).unwrap_or_default().to_owned();
    let names: Vec<Document> = wanted
        .iter()
        .map(|role| doc! { "role": text(role, "role"), "db": text(role, "db") })
        .collect();
    let command = doc! {
        "rolesInfo": names, "showPrivileges": true, "showAuthenticationRestrictions": true,
    };
    let reply = server.write("admin", command).await.writing("cannot read the roles")?;
    let found = reply.get_array("roles").map_err(|_| malformed("reply to rolesInfo"))?;
    let stored = |role: &Document| {
        let (name, db) = (role.get_str("role").ok()?, role.get_str("db").ok()?);
        let list = |field| role.get_array(field).cloned().unwrap_or_default();
        let mut stored = doc! {
            "_id": format!("{db}.{name}"), "role": name, "db": db,
            "privileges": list("privileges"), "roles": list("roles"),
        };
        let restrictions = list("authenticationRestrictions").into_iter();
        let restrictions: Vec<Bson> = restrictions
            .flat_map(|one| match one {
                Bson::Array(several) => several,
                one => vec![one],
            })
            .collect();
        if !restrictions.is_empty() {
            stored.insert("authenticationRestrictions", restrictions);
        }
        RawDocumentBuf::try_from(&stored).ok()
    };
    let stored = found.iter().map(|role| role.as_document().and_then(stored));
    stored.collect::<Option<_>>().ok_or_else(|| malformed("reply to rolesInfo"))
}

impl Differing {
    fn refuse(&self, namespace: &Namespace) -> SourceResult<()> {
        let names = self.others.iter().map(name_of).chain(self.own.iter().cloned());
        let names: Vec<String> = names.collect();
        if names.is_empty() {
            return Ok(());
        }
        let text = format!(
            "the target already has different {}s called {}",
            word(namespace),
            names.join(", ")
        );
        Err(SourceError::new(SourceErrorKind::TargetExists, text).with_hint(USERS_STAY))
    }
}

/// Those of `wanted` that exist at the target and differ there.
async fn differing(
    server: &Server,
    namespace: &Namespace,
    wanted: &[RawDocumentBuf],
) -> SourceResult<Differing> {
    if wanted.is_empty() {
        return Ok(Differing::default());
    }
    let there = documents(server, namespace, wanted).await?;
    let differs = |document: &&RawDocumentBuf| {
        there.get(&name_of(document)).is_some_and(|other| !same(other, document))
    };
    let all: Vec<&RawDocumentBuf> = wanted.iter().filter(differs).collect();
    if all.is_empty() {
        return Ok(Differing::default());
    }
    let own = own_names(server, namespace).await?;
    let (own, others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|document| own.contains(&name_of(document)));
    Ok(Differing {
        others: others.into_iter().cloned().collect(),
        own: own.into_iter().map(name_of).collect(),
    })
}

/// Names of the connected user, or of all roles of this user, inherited ones included.
async fn own_names(server: &Server, namespace: &Namespace) -> SourceResult<HashSet<String>> {
    let status = server
        .write("admin", doc! { "connectionStatus": 1 })
        .await
        .writing("cannot determine the connected user")?;
    let info =
        status.get_document("authInfo").map_err(|_| malformed("reply to connectionStatus"))?;
    let (list, field) = match &*namespace.name {
        "system.users" => ("authenticatedUsers", "user"),
        _ => ("authenticatedUserRoles", "role"),
    };
    let name =
        |one: &Document| Some(format!("{}.{}", one.get_str("db").ok()?, one.get_str(field).ok()?));
    let entries = info.get_array(list).map_err(|_| malformed("reply to connectionStatus"))?;
    Ok(entries.iter().filter_map(Bson::as_document).filter_map(name).collect())
}

/// Database and name, as the server joins them.
fn name_of(document: &RawDocumentBuf) -> String {
    document.get_str("_id").unwrap_or_default().to_owned()
}

fn word(namespace: &Namespace) -> &'static str {
    if namespace.name == "system.users" { "user" } else { "role" }
}
