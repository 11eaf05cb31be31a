//! LZF, as in LibLZF by Marc Lehmann: literals, and references of up to 264 bytes into the last 8
//! KiB.

/// What `packed` expands to, if that is `len` bytes. The output grows as it is made: `len` is not
/// believed.
pub(super) fn expand(packed: &[u8], len: u64) -> Option<Vec<u8>> {
    let len = usize::try_from(len).ok()?;
    // No byte stands for more than 88.
    let mut out = Vec::with_capacity(len.min(packed.len().saturating_mul(88)));
    let mut rest = packed;
    while let Some((&control, behind)) = rest.split_first() {
        rest = behind;
        if control < 0x20 {
            let (literal, behind) = rest.split_at_checked(usize::from(control) + 1)?;
            out.extend_from_slice(literal);
            rest = behind;
        } else {
            let mut count = usize::from(control >> 5);
            if count == 7 {
                let (&more, behind) = rest.split_first()?;
                count += usize::from(more);
                rest = behind;
            }
            let (&low, behind) = rest.split_first()?;
            rest = behind;
            let back = (usize::from(control & 0x1f) << 8 | usize::from(low)) + 1;
            let from = out.len().checked_sub(back)?;
            for at in from..from + count + 2 {
                out.push(*out.get(at)?);
            }
        }
        if out.len() > len {
            return None;
        }
    }
    (out.len() == len).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_repeat_what_came() {
        assert_eq!(expand(&[2, b'a', b'b', b'c', 0x20, 2], 6).unwrap(), b"abcabc");
        // One byte back, nine and more bytes: a run.
        assert_eq!(expand(&[0, b'x', 0xe0, 1, 0], 11).unwrap(), b"xxxxxxxxxxx");
        for (bad, len) in [
            (&[5, b'a'][..], 6),
            (&[0x20, 0], 3),
            (&[0, b'x'], 2),
            (&[0, b'x', 0xe0, 255, 0], 3),
            (&[0xe0], 1),
        ] {
            assert_eq!(expand(bad, len), None, "{bad:?}");
        }
    }
}
