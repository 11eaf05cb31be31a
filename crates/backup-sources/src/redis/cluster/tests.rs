//! What nodes say, whole, damaged, or made to harm.

use proptest::prelude::*;

use super::discover::is_under_way;
use super::slots::{COUNT, Slots, slot_of};
use super::topology::parse;

/// As Redis 7 and 8 answer: with names, a replica, slots on their way, a node that is not known
/// yet, one without a name.
const ANSWER: &str = "\
07c37dfeb235213a872192d90877d0cd55635b91 127.0.0.1:30004@31004,h4.example,shard-id=69bc080733d1355567173199cff4a6a039a2f024 slave \
e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca 0 1426238317239 4 connected
67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1 fe80::7:30002@31002 master - 0 1426238316232 2 connected 5461-10922
292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f 127.0.0.1:30003@31003 master,fail? - 0 1426238318243 3 connected 10923-16000 16383
824fe116063bc5fcf9f4ffd895bc17aee7731ac3 :0@0 handshake - 0 1426238317741 0 disconnected
e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca :30001@31001,,shard-id=29 myself,master - 0 0 1 connected 0-92 94-5460 \
[93->-292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f] [5461-<-67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1]
";

fn slots(ranges: &[(u16, u16)]) -> Slots {
    let mut slots = Slots::default();
    assert!(ranges.iter().all(|(first, last)| slots.add(*first, *last)));
    slots
}

#[test]
fn what_nodes_say_is_understood() {
    let nodes = parse(ANSWER).unwrap();
    let [replica, second, third, unknown, own] = &nodes[..] else { panic!("{nodes:?}") };
    assert_eq!((&*replica.address(), replica.master.as_ref()), ("h4.example:30004", Some(&own.id)));
    assert_eq!(
        (&*second.address(), second.slots.clone()),
        ("[fe80::7]:30002", slots(&[(5461, 10_922)]))
    );
    assert!(!replica.is_master && second.is_master && !second.is_failing && second.is_linked);
    assert!(third.is_failing && third.slots.has(16_383) && !third.slots.has(16_001));
    assert!(unknown.is_failing && !unknown.is_linked && !unknown.is_master);
    assert_eq!((own.is_self, &*own.host, own.port, own.epoch), (true, "", 30_001, 1));
    assert_eq!(
        (own.slots.to_string(), own.moving.join(" ")),
        ("0-92 94-5460".to_owned(), "93 5461".to_owned())
    );
}

#[test]
fn nonsense_is_refused() {
    let own = |host: &str, slots: &str| {
        format!(
            "e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca {host} myself,master - 0 0 1 connected \
             {slots}"
        )
    };
    assert!(parse(&own("h:1@2", "0-16383")).is_ok());
    let other = parse(&own("h:1@2", "1")).unwrap()[0].clone();
    assert_eq!(other.slots, slots(&[(1, 1)]));
    for bad in ["0-16384", "7-6", "1 1", "1-5 5-9", "x", "-", "1-", "65536", "-1"] {
        assert!(parse(&own("h:1@2", bad)).is_err(), "{bad}");
    }
    for bad in ["h@2", "h:70000@2", "h:@2", ":", "a/b:1@2", "user@h:1@2"] {
        assert!(parse(&own(bad, "1")).is_err(), "{bad}");
    }
    let two = [own("h:1@2", "1"), own("h:2@3", "2")].join("\n");
    for bad in ["", "x", &own("h:1@2", "1").replace("myself,", ""), &two, &own("h:1@2", "1")[1..]] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

/// By CLUSTER KEYSLOT of a server.
#[test]
fn keys_belong_to_the_slots_that_servers_say() {
    for (key, slot) in
        [("123456789", 12_739), ("foo", 12_182), ("", 0), ("{user1000}.following", 3443)]
    {
        assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
    }
    assert_eq!(slot_of(b"user1000"), slot_of(b"a{user1000}b{other}"));
    assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
    for whole in [&b"foo{}{bar}"[..], b"foo}bar{", b"{", b"x{y"] {
        assert_ne!(slot_of(whole), slot_of(b"bar"));
    }
}

#[test]
fn slots_are_shown_as_commands_name_them() {
    assert_eq!(slots(&[(0, 5), (7, 7)]).to_string(), "0-5 7");
    let many: Vec<(u16, u16)> = (0..10).map(|at| (at * 3, at * 3)).collect();
    assert!(slots(&many).to_string().ends_with("21 and 2 more ranges"));
}

#[test]
fn jobs_under_way_are_told_from_those_that_ended() {
    let job = |state: &str| {
        let text = format!(
            "*4\r\n$4\r\nname\r\n$1\r\nx\r\n$5\r\nstate\r\n${}\r\n{state}\r\n",
            state.len()
        );
        redis::parse_redis_value(text.as_bytes()).unwrap()
    };
    for (state, expected) in [
        ("success", false),
        ("failed", false),
        ("cancelled", false),
        ("snapshotting", true),
        ("", true),
    ] {
        assert_eq!(is_under_way(&job(state)), expected, "{state}");
    }
    // What is not understood is no reason to go on.
    assert!(is_under_way(&redis::parse_redis_value(b"*0\r\n").unwrap()));
}

/// Whatever is understood makes sense.
fn assert_sense(text: &str) {
    let Ok(nodes) = parse(text) else { return };
    assert_eq!(nodes.iter().filter(|node| node.is_self).count(), 1);
    for node in nodes {
        assert_eq!(node.id.len(), 40);
        let ranges = node.slots.ranges();
        assert!(ranges.iter().all(|(first, last)| first <= last && *last < COUNT), "{ranges:?}");
        assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), "{ranges:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_answers_end_in_peace(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut text = ANSWER.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(text.len());
            text[at] = byte;
        }
        assert_sense(&String::from_utf8_lossy(&text));
        text.truncate(cut.index(text.len()));
        assert_sense(&String::from_utf8_lossy(&text));
    }

    /// Words that mean something, in any order.
    #[test]
    fn crafted_answers_end_in_peace(words in proptest::collection::vec(prop_oneof![
        Just("07c37dfeb235213a872192d90877d0cd55635b91".to_owned()),
        Just("h:1@2,name,shard-id=x".to_owned()), Just("myself,master".to_owned()), Just("-".to_owned()),
        Just("connected".to_owned()), Just("\n".to_owned()), Just("[1->-x]".to_owned()), Just("[".to_owned()),
        "[0-9]{1,6}(-[0-9]{0,6})?", "\\PC{0,12}",
    ], 0..40)) {
        assert_sense(&words.join(" "));
        assert_sense(&words.join(" ").replace(" \n ", "\n"));
    }

    #[test]
    fn any_reply_about_jobs_ends_in_peace(bytes in proptest::collection::vec(prop_oneof![
        Just(b"*2\r\n".to_vec()), Just(b"*-1\r\n".to_vec()), Just(b"$5\r\nstate\r\n".to_vec()), Just(b"$-1\r\n".to_vec()),
        Just(b":1\r\n".to_vec()), Just(b"$7\r\nsuccess\r\n".to_vec()), proptest::collection::vec(any::<u8>(), 0..9),
    ], 0..20)) {
        if let Ok(reply) = redis::parse_redis_value(&bytes.concat()) {
            _ = is_under_way(&reply);
        }
    }

    /// Each range is taken whole or not at all, and a slot is in it or not.
    #[test]
    fn sets_of_slots_are_sets(ranges in proptest::collection::vec((0_u16..300, 0_u16..40), 0..12)) {
        let (mut slots, mut expected) = (Slots::default(), std::collections::BTreeSet::new());
        for (first, len) in ranges {
            let range = first..=first + len;
            let is_new = range.clone().all(|slot| !expected.contains(&slot));
            prop_assert_eq!(slots.add(first, first + len), is_new);
            if is_new {
                expected.extend(range);
            }
        }
        for slot in 0..400 {
            prop_assert_eq!(slots.has(slot), expected.contains(&slot), "{}", slot);
        }
    }
}
