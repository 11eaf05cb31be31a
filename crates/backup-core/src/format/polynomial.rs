//! Random irreducible polynomials of degree 53 over GF(2). Our chunker does not use them, but
//! restic refuses a config without one, and uses it when it backs up into our repository.

use rand::Rng;

const DEGREE: u32 = 53;

fn degree(x: u128) -> u32 {
    127 - x.leading_zeros()
}

fn reduce(mut x: u128, modulus: u128) -> u128 {
    let d = degree(modulus);
    while x != 0 && degree(x) >= d {
        x ^= modulus << (degree(x) - d);
    }
    x
}

fn multiply(a: u128, b: u128, modulus: u128) -> u128 {
    let mut product = 0;
    for bit in 0..64 {
        if b >> bit & 1 == 1 {
            product ^= a << bit;
        }
    }
    reduce(product, modulus)
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, reduce(a, b));
    }
    a
}

/// Ben-Or's test: no factor of degree `i` divides `x^(2^i) - x` for any `i` up to half the degree.
pub(crate) fn is_irreducible(polynomial: u64) -> bool {
    let modulus = u128::from(polynomial);
    if modulus < 4 {
        return false;
    }
    let mut power = 2;
    for _ in 0..degree(modulus) / 2 {
        power = multiply(power, power, modulus);
        if gcd(modulus, power ^ 2) != 1 {
            return false;
        }
    }
    true
}

/// A random irreducible polynomial of degree 53. One in about 53 candidates is irreducible.
pub(crate) fn random() -> u64 {
    let mut rng = rand::rng();
    loop {
        let candidate = (rng.next_u64() & ((1 << DEGREE) - 1)) | 1 << DEGREE | 1;
        if is_irreducible(candidate) {
            return candidate;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_small_polynomials() {
        // x^2+x+1, x^3+x+1, x^8+x^4+x^3+x+1 (AES) are irreducible; x^2+1 = (x+1)^2 and x^8+1 are
        // not.
        for yes in [0b111, 0b1011, 0x11b, 0x3D_A335_8B4D_C173] {
            assert!(is_irreducible(yes), "{yes:x}");
        }
        for no in [0b101, 0x101, 0b110, 0x3D_A335_8B4D_C172] {
            assert!(!is_irreducible(no), "{no:x}");
        }
    }

    #[test]
    fn random_ones_have_degree_53() {
        assert_eq!(degree(u128::from(random())), 53);
    }
}
