//! Expressions over digits, how they are drawn and what they come to.

use crate::core::rng::Stream;

/// Tokens of expressions modulo `modulus`: the digits, then `+ - * ( ) =`.
#[derive(Clone, Copy, Debug)]
pub struct Symbols {
    /// Digits are `0 .. modulus`, and so are values.
    pub modulus: i64,
}

/// Signs behind the digits, in the order of their tokens.
pub const SIGNS: [char; 6] = ['+', '-', '*', '(', ')', '='];

/// Operators among them.
pub const OPERATORS: u64 = 3;

impl Symbols {
    const fn sign(self, place: i64) -> i64 {
        self.modulus + place
    }

    /// `(`
    const fn open(self) -> i64 {
        self.sign(3)
    }

    /// `)`
    const fn close(self) -> i64 {
        self.sign(4)
    }

    /// `=`
    #[cfg(test)]
    pub const fn equals(self) -> i64 {
        self.sign(5)
    }

    fn digit(self, stream: &mut Stream) -> i64 {
        stream.below(self.modulus as u64) as i64
    }

    fn operator(self, stream: &mut Stream) -> i64 {
        self.sign(stream.below(OPERATORS) as i64)
    }

    /// Appends digits with operators between them, `length` tokens, an odd number.
    pub fn flat(self, length: u32, stream: &mut Stream, into: &mut Vec<i64>) {
        into.push(self.digit(stream));
        for _ in 0..length / 2 {
            into.push(self.operator(stream));
            into.push(self.digit(stream));
        }
    }

    /// Appends an expression of exactly `length` tokens, an odd number: operands and operators in turn. Where the room left
    /// allows brackets, the next operand is a digit or an expression in brackets with equal chance; what brackets hold is three
    /// tokens or more, and any odd number that fits is as likely as any other. No brackets go round a whole expression.
    pub fn nested(self, length: u32, stream: &mut Stream, into: &mut Vec<i64>) {
        let (mut left, mut first) = (length, true);
        loop {
            // Behind the first operand at least an operator and a digit follow: else the brackets held everything.
            let room = left.saturating_sub(if first { 4 } else { 2 });
            let used = if room >= 3 && stream.below(2) == 0 {
                let inner = 3 + 2 * stream.below(u64::from(room - 3) / 2 + 1) as u32;
                into.push(self.open());
                self.nested(inner, stream, into);
                into.push(self.close());
                inner + 2
            } else {
                into.push(self.digit(stream));
                1
            };
            left -= used;
            if left == 0 {
                return;
            }
            into.push(self.operator(stream));
            (left, first) = (left - 1, false);
        }
    }

    /// What an expression comes to, modulo the modulus: brackets first, then `*`, then `+` and `-` from left to right.
    /// `None` of what is no expression.
    pub fn value(self, expression: &[i64]) -> Option<i64> {
        let mut rest = expression;
        let value = self.sum(&mut rest)?;
        rest.is_empty().then_some(value)
    }

    fn sum(self, rest: &mut &[i64]) -> Option<i64> {
        let mut sum = self.term(rest)?;
        while let Some(&sign) = rest.first().filter(|&&token| token == self.sign(0) || token == self.sign(1)) {
            *rest = &rest[1..];
            let term = self.term(rest)?;
            sum = (if sign == self.sign(0) { sum + term } else { sum - term }).rem_euclid(self.modulus);
        }
        Some(sum)
    }

    fn term(self, rest: &mut &[i64]) -> Option<i64> {
        let mut term = self.operand(rest)?;
        while rest.first() == Some(&self.sign(2)) {
            *rest = &rest[1..];
            term = term * self.operand(rest)? % self.modulus;
        }
        Some(term)
    }

    fn operand(self, rest: &mut &[i64]) -> Option<i64> {
        let (&token, behind) = rest.split_first()?;
        *rest = behind;
        if (0..self.modulus).contains(&token) {
            return Some(token);
        }
        if token != self.open() {
            return None;
        }
        let inner = self.sum(rest)?;
        let (&token, behind) = rest.split_first()?;
        *rest = behind;
        (token == self.close()).then_some(inner)
    }

    /// As it is written on paper.
    #[cfg(test)]
    pub fn text(self, tokens: &[i64]) -> String {
        let letter = |&token: &i64| match usize::try_from(token - self.modulus) {
            Ok(sign) => SIGNS[sign].to_string(),
            Err(_) => token.to_string(),
        };
        tokens.iter().map(letter).collect()
    }
}
