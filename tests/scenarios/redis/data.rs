//! Data of every type, in every encoding that a version has.

use crate::support::redis::{Client, Redis, Version};

/// Far enough away that nothing expires while a test runs; milliseconds since 1970.
pub(super) const LATER: u64 = 4_000_000_000_000;

type Command = Vec<Vec<u8>>;

fn command(text: &str) -> Command {
    text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// Fills three databases.
pub(super) fn fill(server: &Redis) {
    for (database, rounds) in [(0, 1), (3, 2), (9, 1)] {
        let mut client = server.client();
        client.ok(&["SELECT", &database.to_string()]);
        for round in 0..rounds {
            strings(&mut client, round);
            collections(&mut client, round);
            streams(&mut client, round);
            if server.version.has_field_ttl() {
                field_ttls(&mut client, round);
            }
        }
    }
    if server.version >= Version::Redis7 {
        let library =
            "#!lua name=lib\nredis.register_function('one', function(keys, args) return 1 end)";
        server.run(&["FUNCTION", "LOAD", library]);
        server.run(&["FUNCTION", "LOAD", &library.replace("lib", "other").replace("one", "two")]);
    }
}

fn strings(client: &mut Client, round: u32) {
    let key = |name: &str| format!("s{round}:{name}").into_bytes();
    let set = |name: &str, value: &[u8]| vec![b"SET".to_vec(), key(name), value.to_vec()];
    let mut state = 88_172_645_463_325_252_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(2_000_000)
    .collect();
    client.all(&[
        set("small", b"x"),
        set("empty", b""),
        set("int8", b"-7"),
        set("int16", b"-30000"),
        set("int32", b"2000000000"),
        set("int64", b"9000000000000000000"),
        set("binary\0\r\n key", b"\0\xff\r\n"),
        set("lzf", &[b'a'; 5000]),
        set("large", &noise),
        vec![
            b"SET".to_vec(),
            (12_345 + round).to_string().into_bytes(),
            b"the key is a number".to_vec(),
        ],
        vec![
            b"SET".to_vec(),
            [&[b'k'; 300][..], round.to_string().as_bytes()].concat(),
            b"long key".to_vec(),
        ],
        set("ttl", b"x"),
        vec![b"PEXPIREAT".to_vec(), key("ttl"), LATER.to_string().into_bytes()],
    ]);
    client.ok(&["PFADD", &format!("hll{round}"), "a", "b", "c"]);
    client.ok(&["SETBIT", &format!("bits{round}"), "70000", "1"]);
    client.ok(&["GEOADD", &format!("geo{round}"), "13.361389", "38.115556", "Palermo"]);
}

fn collections(client: &mut Client, round: u32) {
    let many = |what: &str, count: u32, each: &dyn Fn(u32) -> Vec<String>| {
        let mut all = what.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Command>();
        all.extend((0..count).flat_map(each).map(String::into_bytes));
        all
    };
    let long = "v".repeat(200);
    client.all(&[
        many(&format!("RPUSH list{round}:small"), 5, &|n| vec![format!("e{n}")]),
        many(&format!("RPUSH list{round}:numbers"), 300, &|n| {
            vec![(i64::from(n) * 7_777_777 - 1000).to_string()]
        }),
        many(&format!("RPUSH list{round}:large"), 3000, &|n| vec![format!("element {n} {long}")]),
        many(&format!("RPUSH list{round}:plain"), 2, &|n| vec!["p".repeat(20_000 + n as usize)]),
        many(&format!("SADD set{round}:ints"), 40, &|n| {
            vec![(i64::from(n) * 1_000_000_007 - 5).to_string()]
        }),
        many(&format!("SADD set{round}:small"), 10, &|n| vec![format!("m{n}")]),
        many(&format!("SADD set{round}:large"), 2000, &|n| vec![format!("member {n}")]),
        many(&format!("ZADD zset{round}:small"), 9, &|n| vec![format!("{}.5", n), format!("m{n}")]),
        command(&format!(
            "ZADD zset{round}:edges -inf low inf high 0 zero -0 minus 1e300 huge 3 3"
        )),
        many(&format!("ZADD zset{round}:large"), 1000, &|n| {
            vec![format!("{}.25", n), format!("member {n}")]
        }),
        many(&format!("HSET hash{round}:small"), 9, &|n| vec![format!("f{n}"), format!("{n}")]),
        many(&format!("HSET hash{round}:large"), 1500, &|n| {
            vec![format!("field {n}"), format!("value {n}")]
        }),
        many(&format!("HSET hash{round}:wide"), 2, &|n| vec![format!("f{n}"), long.clone()]),
    ]);
}

fn streams(client: &mut Client, round: u32) {
    let stream = format!("stream{round}");
    let commands: Vec<Command> = (1..400)
        .map(|n| command(&format!("XADD {stream} {n}-1 field value{n} n {n}")))
        .chain([
            command(&format!("XGROUP CREATE {stream} g1 0")),
            command(&format!("XGROUP CREATE {stream} g2 5-1")),
            command(&format!("XREADGROUP GROUP g1 alice COUNT 20 STREAMS {stream} >")),
            command(&format!("XREADGROUP GROUP g1 bob COUNT 10 STREAMS {stream} >")),
            command(&format!("XACK {stream} g1 1-1 2-1 25-1")),
            command(&format!("XDEL {stream} 3-1 200-1")),
            command(&format!("XTRIM {stream} MAXLEN 350")),
            command(&format!("XADD {stream}:empty 1-1 a b")),
            command(&format!("XDEL {stream}:empty 1-1")),
        ])
        .collect();
    client.all(&commands);
}

/// Some fields of a small and of a large hash expire.
fn field_ttls(client: &mut Client, round: u32) {
    for (name, count) in [("few", 5), ("many", 700)] {
        let key = format!("ttl{round}:{name}");
        let fields: Vec<Command> =
            (0..count).map(|n| command(&format!("HSET {key} f{n} v{n}"))).collect();
        client.all(&fields);
        client.ok(&["HPEXPIREAT", &key, &LATER.to_string(), "FIELDS", "2", "f1", "f3"]);
        client.ok(&["HPEXPIREAT", &key, &(LATER + 5000).to_string(), "FIELDS", "1", "f2"]);
    }
}
