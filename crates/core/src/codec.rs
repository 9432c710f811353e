//! The byte format of commands in the log and of rows in the view.
//!
//! | value | bytes |
//! |---|---|
//! | unsigned integer | LEB128 varint, shortest form only, at most 10 bytes |
//! | `bool`, option tag | one byte, 0 or 1 |
//! | fixed array `[u8; N]` | its N bytes |
//! | string, bytes, list | varint length (bytes, bytes, items), then the content; strings are UTF-8 |
//! | record | its fields in order, nothing between |
//! | choice | varint tag, then the variant's record |
//!
//! Every value has exactly one encoding and decoding refuses anything else, so equal bytes mean equal values. Formats are
//! frozen once a log holds them: a change is a new tag, never another meaning of an old one.

use bytes::Bytes;
use ieum_planted::Bug;

/// Bytes that are not the encoding of the value asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed bytes: {0}")]
pub struct Malformed(pub &'static str);

/// Reads values off the front of a byte slice.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of all of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether everything was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What was not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(Malformed("ends too early"))?;
        self.rest = rest;
        Ok(head)
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let (head, rest) = self.rest.split_first().ok_or(Malformed("ends too early"))?;
        self.rest = rest;
        Ok(*head)
    }

    /// A varint.
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed("number over 64 bits"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return if byte == 0 && shift > 0 {
                    Err(Malformed("number not in its shortest form"))
                } else {
                    Ok(value)
                };
            }
        }
        Err(Malformed("number over 64 bits"))
    }

    /// A length that what is left could hold, each item being at least `least` bytes long.
    pub fn length(&mut self, least: usize) -> Result<usize, Malformed> {
        let length = usize::try_from(self.varint()?).map_err(|_| Malformed("length over the address space"))?;
        if length.saturating_mul(least) > self.rest.len() {
            Err(Malformed("length beyond the end"))
        } else {
            Ok(length)
        }
    }
}

/// Appends `value` as a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A value with one byte encoding.
pub trait Code: Sized {
    /// Appends the encoding of `self`.
    fn put(&self, out: &mut Vec<u8>);

    /// Reads one value off the front of `from`.
    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed>;

    /// The encoding of `self` alone.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out);
        out
    }

    /// The value that exactly all of `bytes` encode.
    fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let value = Self::take(&mut reader)?;
        if reader.is_empty() { Ok(value) } else { Err(Malformed("bytes left over")) }
    }
}

macro_rules! unsigned {
    ($($kind:ty),*) => {$(
        impl Code for $kind {
            fn put(&self, out: &mut Vec<u8>) {
                put_varint(out, u64::from(*self));
            }
            fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
                <$kind>::try_from(from.varint()?).map_err(|_| Malformed("number out of range"))
            }
        }
    )*};
}
unsigned!(u8, u16, u32, u64);

impl Code for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match from.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("flag that is neither 0 nor 1")),
        }
    }
}

impl<const N: usize> Code for [u8; N] {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        from.bytes(N)?.try_into().map_err(|_| Malformed("ends too early"))
    }
}

impl Code for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.len() as u64);
        out.extend_from_slice(self.as_bytes());
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let length = from.length(1)?;
        std::str::from_utf8(from.bytes(length)?).map(str::to_owned).map_err(|_| Malformed("text that is not UTF-8"))
    }
}

impl Code for Bytes {
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.len() as u64);
        out.extend_from_slice(self);
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let length = from.length(1)?;
        Ok(Self::copy_from_slice(from.bytes(length)?))
    }
}

impl<T: Code> Code for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.len() as u64);
        for item in self {
            item.put(out);
        }
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        if Bug::DecodeTrustsLength.planted() {
            let said = from.varint()?.min(1 << 20);
            let mut items = Self::with_capacity(said as usize);
            for _ in 0..said {
                items.push(T::take(from)?);
            }
            return Ok(items);
        }
        let length = from.length(1)?;
        // Not `with_capacity(length)`: an item may be larger in memory than in bytes, and the length is somebody's word.
        let mut items = Self::new();
        for _ in 0..length {
            items.push(T::take(from)?);
        }
        Ok(items)
    }
}

impl<T: Code> Code for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        if bool::take(from)? { T::take(from).map(Some) } else { Ok(None) }
    }
}

impl<A: Code, B: Code> Code for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok((A::take(from)?, B::take(from)?))
    }
}

/// Declares a struct whose encoding is its fields in order.
macro_rules! record {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$doc:meta])* pub $field:ident: $kind:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name { $($(#[$doc])* pub $field: $kind,)* }

        impl $crate::codec::Code for $name {
            #[allow(unused_variables, reason = "a record may have no fields")]
            fn put(&self, out: &mut Vec<u8>) {
                $($crate::codec::Code::put(&self.$field, out);)*
            }
            #[allow(unused_variables, reason = "a record may have no fields")]
            fn take(from: &mut $crate::codec::Reader<'_>) -> Result<Self, $crate::codec::Malformed> {
                Ok(Self { $($field: $crate::codec::Code::take(from)?,)* })
            }
        }
    };
}

/// Declares an enum whose encoding is the given tag, then the variant's fields in order.
macro_rules! choice {
    ($(#[$meta:meta])* pub enum $name:ident {
        $($(#[$doc:meta])* $tag:literal => $variant:ident $(($inner:ty))? $({ $($(#[$fdoc:meta])* $field:ident: $kind:ty,)* })?,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(missing_docs, reason = "a variant's text speaks for its fields, which are named for what they hold")]
        pub enum $name { $($(#[$doc])* $variant $(($inner))? $({ $($(#[$fdoc])* $field: $kind,)* })?,)* }

        impl $crate::codec::Code for $name {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $($crate::codec::choice_pattern!($name, $variant, value $(, ($inner))? $(, { $($field),* })?) => {
                        $crate::codec::put_varint(out, $tag);
                        $(<$inner as $crate::codec::Code>::put(value, out);)?
                        $($($crate::codec::Code::put($field, out);)*)?
                    })*
                }
            }
            fn take(from: &mut $crate::codec::Reader<'_>) -> Result<Self, $crate::codec::Malformed> {
                match from.varint()? {
                    $($tag => Ok($crate::codec::choice_take!($name, $variant, from $(, ($inner))? $(, { $($field),* })?)),)*
                    _ => Err($crate::codec::Malformed(concat!("unknown ", stringify!($name)))),
                }
            }
        }
    };
}

macro_rules! choice_pattern {
    ($name:ident, $variant:ident, $value:ident) => { $name::$variant };
    ($name:ident, $variant:ident, $value:ident, ($inner:ty)) => { $name::$variant($value) };
    ($name:ident, $variant:ident, $value:ident, { $($field:ident),* }) => { $name::$variant { $($field),* } };
}

macro_rules! choice_take {
    ($name:ident, $variant:ident, $from:ident) => { $name::$variant };
    ($name:ident, $variant:ident, $from:ident, ($inner:ty)) => { $name::$variant(<$inner as $crate::codec::Code>::take($from)?) };
    ($name:ident, $variant:ident, $from:ident, { $($field:ident),* }) => {
        $name::$variant { $($field: $crate::codec::Code::take($from)?),* }
    };
}

pub(crate) use {choice, choice_pattern, choice_take, record};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_number_has_one_encoding(value: u64) {
            let bytes = value.to_bytes();
            prop_assert_eq!(u64::from_bytes(&bytes), Ok(value));
        }

        #[test]
        fn what_decodes_encodes_to_the_same_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(value) = Vec::<(u64, Option<String>)>::from_bytes(&bytes) {
                prop_assert_eq!(value.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn refuses_other_forms() {
        assert_eq!(u64::from_bytes(&[0x80, 0]), Err(Malformed("number not in its shortest form")));
        assert!(u64::from_bytes(&[0xff; 11]).is_err());
        assert!(u8::from_bytes(&[0x80, 2]).is_err());
        assert!(bool::from_bytes(&[2]).is_err());
        assert!(String::from_bytes(&[2, 0xff, 0xff]).is_err());
        assert!(Vec::<u64>::from_bytes(&[0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
        assert!(u64::from_bytes(&[1, 1]).is_err());
    }
}
