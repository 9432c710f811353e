//! Damage to valid bytes: what a bad disk, a bad network or a bad person would do to them.

/// Numbers from a seed (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The numbers of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, 0 if there is none.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.number() % (end.max(1) as u64)).unwrap_or(0)
    }

    /// One of `from`.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }
}

/// What decoders stumble over: ends of ranges, lengths that lie, the signs of texts that nest, and texts that are none.
const TOKENS: &[&[u8]] = &[
    b"\0",
    b"\x01",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\xff\xff\xff\x7f",
    b"\xff\xff\xff\xff",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x91\xa8\xe2\x80\x8d",
    b"\"",
    b"{",
    b"}",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b"{\"a\":{\"a\":{\"a\":{\"a\":",
    b",",
    b":",
    b"\\u0000",
    b"\\ud800",
    b"null",
    b"-1",
    b"1e400",
    b"0.5",
    b"9007199254740993",
    b"18446744073709551616",
    b"99999999999999999999999999999999999999",
    b"\n",
    b"\r\n",
    b"=",
    b".",
    b"%00",
];

/// Damages `bytes` in up to four places; `others` are whole samples of the same kind, to take pieces from.
pub fn damage(random: &mut Random, bytes: &[u8], others: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        once(random, &mut bytes, others);
    }
    bytes
}

fn once(random: &mut Random, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
    let at = random.below(bytes.len() + 1);
    let length = random.below(32.min(bytes.len() - at) + 1);
    match random.below(10) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.number() as u8;
            }
        }
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..at + length)),
        4 => {
            let twice: Vec<u8> = bytes.iter().skip(at).take(length).copied().collect();
            drop(bytes.splice(at..at, twice));
        }
        5 => {
            let strange: Vec<u8> = (0..length).map(|_| random.number() as u8).collect();
            drop(bytes.splice(at..at, strange));
        }
        6 => {
            if let Some(token) = random.pick(TOKENS) {
                drop(bytes.splice(at..at, token.iter().copied()));
            }
        }
        7 => {
            if let Some(token) = random.pick(TOKENS) {
                drop(bytes.splice(at..at + length, token.iter().copied()));
            }
        }
        8 => {
            // The beginning of one and the end of another.
            if let Some(other) = random.pick(others) {
                let from = random.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend(other.iter().skip(from));
            }
        }
        _ => number(random, bytes, at),
    }
}

/// Replaces the next number that is written in digits.
fn number(random: &mut Random, bytes: &mut Vec<u8>, at: usize) {
    let digit = |byte: &u8| byte.is_ascii_digit();
    let Some(start) = bytes.iter().skip(at).position(digit).map(|after| at + after) else { return };
    let end = bytes.iter().skip(start).position(|byte| !digit(byte)).map_or(bytes.len(), |after| start + after);
    let number = match random.below(4) {
        0 => "0".to_owned(),
        1 => u64::MAX.to_string(),
        2 => "1".repeat(random.below(60)),
        _ => random.number().to_string(),
    };
    drop(bytes.splice(start..end, number.bytes()));
}
