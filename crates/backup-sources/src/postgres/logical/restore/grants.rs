//! Lists of privileges, and the roles that granted them.

use super::super::sql::{grantor, tokens};

/// The statements of a list. `pg_dump` surrounds grants of roles other than the owner by `SET SESSION
/// AUTHORIZATION`, which needs a superuser. With `as_grantors` they are made as these roles; otherwise
/// the session makes them, as the owner.
pub(super) fn of_list(statements: Vec<String>, as_grantors: bool) -> Vec<String> {
    let (mut role, mut out) = (None, Vec::new());
    for statement in statements {
        if let Some(other) = grantor(&statement) {
            role = Some(other.to_owned());
        } else if resets_grantor(&statement) {
            role = None;
        } else {
            out.push(match role.as_ref().filter(|_| as_grantors) {
                Some(role) => format!("SET ROLE {role}\n;{statement}\n;RESET ROLE"),
                None => statement,
            });
        }
    }
    out
}

/// `RESET SESSION AUTHORIZATION;`
fn resets_grantor(statement: &str) -> bool {
    let mut said = tokens(statement).filter(|token| !token.is_blank());
    ["RESET", "SESSION", "AUTHORIZATION"]
        .iter()
        .all(|word| said.next().is_some_and(|token| token.is(word)))
}

#[cfg(test)]
mod tests {
    use super::of_list;

    #[test]
    fn grants_are_made_by_their_grantors() {
        let list = [
            "\n\nGRANT SELECT ON TABLE s.t TO bob WITH GRANT OPTION;",
            "\nSET SESSION AUTHORIZATION \"b o\";",
            "\nGRANT SELECT ON TABLE s.t TO carol;",
            "\nRESET SESSION AUTHORIZATION;",
            "\nGRANT INSERT ON TABLE s.t TO dave;",
        ];
        let list = || list.map(str::to_owned).to_vec();
        let by_carol = "\nGRANT SELECT ON TABLE s.t TO carol;";
        let [first, _, _, _, last] = &list()[..] else { panic!() };
        assert_eq!(of_list(list(), false), [first.clone(), by_carol.to_owned(), last.clone()]);
        let by_bo = format!("SET ROLE \"b o\"\n;{by_carol}\n;RESET ROLE");
        assert_eq!(of_list(list(), true), [first.clone(), by_bo, last.clone()]);
    }
}
