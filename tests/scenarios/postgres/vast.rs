//! A table over 1 GiB: its pages lie in two files, and it is cut off and grows again where the
//! second one begins.

use tokio_postgres::Client;

use super::say;

/// Pages in the first file.
const FIRST: u32 = 131_072;

/// One row on each page: little is written for many pages.
pub(super) async fn make(shop: &Client) {
    run(shop, "CREATE TABLE vast (id int PRIMARY KEY, t text) WITH (fillfactor = 10)").await;
    grow(shop, 1, FIRST + 3000).await;
}

/// What happens to it between backups: changes on both sides of the border, its end goes to before
/// the border, and it passes it again.
pub(super) async fn go_on(shop: &Client, round: u32) {
    match round {
        0 => {
            let (from, to) = (FIRST - 200, FIRST + 200);
            run(shop, &format!("UPDATE vast SET t = upper(t) WHERE id BETWEEN {from} AND {to}"))
                .await;
        }
        1 => {
            run(shop, &format!("DELETE FROM vast WHERE id > {}", FIRST - 100)).await;
            run(shop, "VACUUM vast").await;
        }
        _ => grow(shop, FIRST + 10_000, FIRST + 12_000).await,
    }
}

async fn grow(shop: &Client, from: u32, to: u32) {
    let rows = "SELECT n, repeat(md5(n::text), 20)";
    run(shop, &format!("INSERT INTO vast {rows} FROM generate_series({from}, {to}) n")).await;
}

async fn run(shop: &Client, sql: &str) {
    say(sql);
    shop.batch_execute(sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {:?}", error.as_db_error()));
}
