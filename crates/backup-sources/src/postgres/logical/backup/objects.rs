//! What has values and is no table: sequences and large objects.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;

use backup_core::source::SourceResult;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio_postgres::Row;

use super::super::catalog::{Kind, Relation};
use super::super::error::reading;
use super::super::manifest::Sequence;
use super::super::sql::{literal, qualified, quoted};
use super::state::{Session, State};

/// Sequences that one query asks for.
const ASKED: usize = 100;
/// Large objects that are described at once.
const DESCRIBED: usize = 1000;
/// Bytes of a large object that one statement writes; in the file they are twice as many.
const SLICE: i32 = 256 << 10;

/// The values of the sequences of a database. They do not follow snapshots: read last, none is
/// behind what the rows use.
pub(super) async fn sequences(state: &State, at: usize) -> SourceResult<Vec<Sequence>> {
    let database = &state.databases[at];
    let covered = |one: &&Relation| one.kind == Kind::Sequence && database.is_covered(one);
    let covered = database.catalog.relations.iter().filter(covered);
    let (wanted, without): (Vec<&Relation>, Vec<&Relation>) =
        covered.partition(|one| database.has(one));
    let sequence = |one: &Relation, last_value, is_called| {
        let owner = one.owned_by.and_then(|oid| database.catalog.by_oid(oid));
        let owned_by = owner.map(|table| (table.schema.clone(), table.name.clone()));
        Sequence {
            schema: one.schema.clone(),
            name: one.name.clone(),
            owned_by,
            last_value,
            is_called,
        }
    };
    let mut found: Vec<Sequence> =
        without.into_iter().map(|one| sequence(one, None, false)).collect();
    if wanted.is_empty() {
        return Ok(found);
    }
    let session = state.session(at, true).await?;
    let doing = |error: tokio_postgres::Error| {
        reading(&error, format!("cannot read the sequences of {}", database.name))
    };
    for some in wanted.chunks(ASKED) {
        let each = some.iter().enumerate().map(|(at, one)| {
            format!("SELECT {at} AS at, last_value, is_called FROM {}", one.sql())
        });
        let asking = format!("{} ORDER BY at", each.collect::<Vec<_>>().join(" UNION ALL "));
        for (row, one) in
            session.sql().client.query(&asking, &[]).await.map_err(doing)?.iter().zip(some)
        {
            found.push(sequence(
                one,
                Some(row.try_get(1).map_err(doing)?),
                row.try_get(2).map_err(doing)?,
            ));
        }
    }
    state.done(session).await?;
    Ok(found)
}

/// The same as statements.
pub(super) fn sequences_sql(sequences: &[Sequence]) -> String {
    let mut out = String::new();
    for one in sequences {
        let Some(last) = one.last_value else { continue };
        let name = literal(&qualified(&one.schema, &one.name));
        // Writing to a string does not fail.
        _ = writeln!(out, "SELECT pg_catalog.setval({name}, {last}, {});", one.is_called);
    }
    out
}

/// Large objects on their way, one statement a line.
struct Objects {
    state: Arc<State>,
    at: usize,
    session: Session,
    /// Those that are not described yet.
    ids: VecDeque<u32>,
    /// Those that are, with their statements.
    described: VecDeque<(u32, String)>,
    /// The one whose bytes are being read, and how many have been.
    reading: Option<(u32, i64)>,
    count: u64,
}

/// `large-objects.sql`.
pub(super) fn large_objects(
    state: &Arc<State>,
    at: usize,
) -> BoxStream<'static, SourceResult<Bytes>> {
    state.announce();
    let state = Arc::clone(state);
    let begin = async move {
        let session = state.session(at, false).await?;
        let asking = "SELECT oid FROM pg_largeobject_metadata ORDER BY oid";
        let rows = session.sql().client.query(asking, &[]).await;
        let ids = rows.and_then(|rows| {
            rows.iter().map(|row| row.try_get(0)).collect::<Result<VecDeque<u32>, _>>()
        });
        let ids = ids.map_err(|error| reading(&error, "cannot list the large objects"))?;
        let count = ids.len() as u64;
        Ok(Objects { state, at, session, ids, described: VecDeque::new(), reading: None, count })
    };
    let pieces = stream::once(begin).flat_map(|begun| match begun {
        Err(error) => stream::iter([Err(error)]).boxed(),
        Ok(objects) => stream::try_unfold(Some(objects), async |objects| {
            let Some(mut objects) = objects else { return Ok(None) };
            let state = Arc::clone(&objects.state);
            match state.until_cancelled(objects.next()).await? {
                Some(text) => {
                    state.pass(text.len()).await?;
                    Ok(Some((Bytes::from(text), Some(objects))))
                }
                None => {
                    state.note_large_objects(objects.at, objects.count);
                    state.done(objects.session).await?;
                    state.read();
                    Ok(None)
                }
            }
        })
        .boxed(),
    });
    pieces.boxed()
}

impl Objects {
    async fn next(&mut self) -> SourceResult<Option<String>> {
        if let Some((id, from)) = self.reading {
            let row = self
                .session
                .sql()
                .client
                .query_one("SELECT lo_get($1, $2, $3)", &[&id, &from, &SLICE])
                .await;
            let bytes = row.and_then(|row| row.try_get::<_, Vec<u8>>(0));
            let bytes = bytes
                .map_err(|error| reading(&error, format!("cannot read the large object {id}")))?;
            let is_last = bytes.len() < SLICE.unsigned_abs() as usize;
            self.reading = (!is_last).then_some((id, from + i64::from(SLICE)));
            if bytes.is_empty() {
                return Ok(Some(String::new()));
            }
            return Ok(Some(format!(
                "SELECT pg_catalog.lo_put({id}, {from}, '\\x{}');\n",
                hex::encode(bytes)
            )));
        }
        if self.described.is_empty() && !self.ids.is_empty() {
            self.describe().await?;
        }
        Ok(self.described.pop_front().map(|(id, statements)| {
            self.reading = Some((id, 0));
            statements
        }))
    }

    async fn describe(&mut self) -> SourceResult<()> {
        const ASKING: &str = "SELECT m.oid, pg_get_userbyid(m.lomowner)::text, \
                              obj_description(m.oid, 'pg_largeobject'), m.lomacl IS NOT NULL, \
                              ARRAY(SELECT a.privilege_type FROM aclexplode(m.lomacl) a ORDER BY \
                              a.grantee, a.privilege_type), ARRAY(SELECT CASE WHEN a.grantee = 0 \
                              THEN '' ELSE pg_get_userbyid(a.grantee)::text END FROM \
                              aclexplode(m.lomacl) a ORDER BY a.grantee, a.privilege_type), \
                              ARRAY(SELECT a.is_grantable FROM aclexplode(m.lomacl) a ORDER BY \
                              a.grantee, a.privilege_type), ARRAY(SELECT l.provider FROM \
                              pg_seclabel l WHERE l.objoid = m.oid AND l.classoid = \
                              'pg_largeobject'::regclass ORDER BY l.provider), ARRAY(SELECT \
                              l.label FROM pg_seclabel l WHERE l.objoid = m.oid AND l.classoid = \
                              'pg_largeobject'::regclass ORDER BY l.provider) FROM \
                              pg_largeobject_metadata m WHERE m.oid = ANY ($1) ORDER BY m.oid";
        let some: Vec<u32> = self.ids.drain(..DESCRIBED.min(self.ids.len())).collect();
        let doing = |error: tokio_postgres::Error| {
            reading(&error, "cannot read the owners and privileges of large objects")
        };
        for row in self.session.sql().client.query(ASKING, &[&some]).await.map_err(doing)? {
            self.described
                .push_back((row.try_get(0).map_err(doing)?, statements(&row).map_err(doing)?));
        }
        Ok(())
    }
}

/// What makes a large object, without its bytes.
fn statements(row: &Row) -> Result<String, tokio_postgres::Error> {
    let (id, owner, comment): (u32, String, Option<String>) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let (is_granted, privileges): (bool, Vec<String>) = (row.try_get(3)?, row.try_get(4)?);
    let (grantees, grantable): (Vec<String>, Vec<bool>) = (row.try_get(5)?, row.try_get(6)?);
    let mut out = format!("SELECT pg_catalog.lo_create('{id}');\n");
    // Writing to a string does not fail.
    _ = writeln!(out, "ALTER LARGE OBJECT {id} OWNER TO {};", quoted(&owner));
    if is_granted {
        _ = writeln!(out, "REVOKE ALL ON LARGE OBJECT {id} FROM {};", quoted(&owner));
    }
    for ((privilege, grantee), grantable) in privileges.iter().zip(&grantees).zip(grantable) {
        let to = if grantee.is_empty() { "PUBLIC".to_owned() } else { quoted(grantee) };
        let option = if grantable { " WITH GRANT OPTION" } else { "" };
        _ = writeln!(out, "GRANT {privilege} ON LARGE OBJECT {id} TO {to}{option};");
    }
    let (providers, labels): (Vec<String>, Vec<String>) = (row.try_get(7)?, row.try_get(8)?);
    for (provider, label) in providers.iter().zip(&labels) {
        _ = writeln!(
            out,
            "SECURITY LABEL FOR {} ON LARGE OBJECT {id} IS {};",
            quoted(provider),
            literal(label)
        );
    }
    if let Some(comment) = comment {
        _ = writeln!(out, "COMMENT ON LARGE OBJECT {id} IS {};", literal(&comment));
    }
    Ok(out)
}
