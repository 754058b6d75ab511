//! ListOps expressions as symbols: drawing them, evaluating them, counting them.

use crate::core::rng::Stream;

/// A token of an expression. 0–9 are the digits.
pub(super) type Symbol = u8;

/// Smallest operand.
pub(super) const MIN: Symbol = 10;
/// Largest operand.
pub(super) const MAX: Symbol = 11;
/// Median; of an even count the mean of the middle two, without its fraction.
pub(super) const MED: Symbol = 12;
/// Sum modulo 10.
pub(super) const SM: Symbol = 13;
/// The closing bracket, written `]` in the files and `X` in the vocabulary.
pub(super) const CLOSE: Symbol = 14;
/// How many symbols there are.
pub(super) const SYMBOLS: i64 = 15;

/// The symbol of a word of the official files.
pub(super) fn parse(word: &[u8]) -> Option<Symbol> {
    match word {
        [digit @ b'0'..=b'9'] => Some(digit - b'0'),
        b"[MIN" => Some(MIN),
        b"[MAX" => Some(MAX),
        b"[MED" => Some(MED),
        b"[SM" => Some(SM),
        b"]" => Some(CLOSE),
        _ => None,
    }
}

/// How a symbol is written in the official files.
const fn word(symbol: Symbol) -> &'static str {
    const WORDS: [&str; SYMBOLS as usize] =
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "[MIN", "[MAX", "[MED", "[SM", "]"];
    WORDS[symbol as usize]
}

/// Appends an expression as the official files have it: every node is a chain of pairs that nests to the left, so
/// `[OP a b ]` is `( ( ( [OP a ) b ) ] )`.
///
/// # Panics
/// When the symbols are not an expression.
pub(super) fn write(symbols: &[Symbol], text: &mut Vec<u8>) {
    let mut operands = vec![0_usize; symbols.len()]; // of the operator at each place
    let mut open = Vec::new();
    for (at, &symbol) in symbols.iter().enumerate() {
        if matches!(symbol, MIN..=SM) {
            open.push(at);
            continue;
        }
        if symbol == CLOSE {
            open.pop().expect("a bracket closes an operator");
        }
        if let Some(&parent) = open.last() {
            operands[parent] += 1;
        }
    }
    for (at, &symbol) in symbols.iter().enumerate() {
        if matches!(symbol, MIN..=SM) {
            text.extend(std::iter::repeat_n(b"( ", operands[at] + 1).flatten());
            text.extend_from_slice(word(symbol).as_bytes());
            text.push(b' ');
            open.push(at);
            continue;
        }
        text.extend_from_slice(word(symbol).as_bytes());
        if symbol == CLOSE {
            text.extend_from_slice(b" )");
            open.pop().expect("a bracket closes an operator");
        }
        text.extend_from_slice(if open.is_empty() { b"" } else { b" ) " });
    }
}

/// The value of a whole expression, or what keeps it from being one.
pub(super) fn evaluate(symbols: &[Symbol]) -> Result<u8, String> {
    let mut open: Vec<(Symbol, usize)> = Vec::new(); // operator, where its operands begin
    let mut values: Vec<u8> = Vec::new();
    for (i, &symbol) in symbols.iter().enumerate() {
        if open.is_empty() && !values.is_empty() {
            return Err(format!("the expression is complete after {i} of {} tokens", symbols.len()));
        }
        match symbol {
            0..=9 => values.push(symbol),
            MIN | MAX | MED | SM => open.push((symbol, values.len())),
            _ => {
                let (operator, start) = open.pop().ok_or("a `]` closes nothing")?;
                let value = apply(operator, &mut values[start..]).ok_or("an operator has no operands")?;
                values.truncate(start);
                values.push(value);
            }
        }
    }
    match (open.len(), values.as_slice()) {
        (0, &[value]) => Ok(value),
        (0, _) => Err("the expression is empty".into()),
        (brackets, _) => Err(format!("the expression ends with {brackets} brackets open")),
    }
}

/// An operator on its operands, which it may put in order. `None` without operands.
fn apply(operator: Symbol, operands: &mut [u8]) -> Option<u8> {
    match operator {
        MIN => operands.iter().min().copied(),
        MAX => operands.iter().max().copied(),
        SM if operands.is_empty() => None,
        SM => Some((operands.iter().map(|&value| u64::from(value)).sum::<u64>() % 10) as u8),
        _ => {
            operands.sort_unstable();
            let n = operands.len();
            Some((operands.get(n.checked_sub(1)? / 2)? + operands[n / 2]) / 2)
        }
    }
}

/// The shape of the trees to draw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Trees are longer than this, in tokens without parentheses.
    pub longer_than: usize,
    /// Trees are shorter than this.
    pub shorter_than: usize,
    /// Levels of a tree, its leaves included.
    pub max_depth: u32,
    /// Most operands of an operator; the least is 2.
    pub max_args: u64,
}

impl Shape {
    /// Draws trees until one has a length that is kept; leaves it in `tree` and gives how many were drawn. `None` after
    /// `tries` trees.
    pub fn draw(&self, stream: &mut Stream, tree: &mut Vec<Symbol>, tries: u32) -> Option<u32> {
        (1..=tries).find(|_| {
            tree.clear();
            self.grow(stream, tree, 1, 0).is_some() && tree.len() > self.longer_than
        })
    }

    /// Appends one subtree at `depth`, below `open` brackets. `None` as soon as the tree is sure to be too long: a tree
    /// that is thrown away need not be finished.
    fn grow(&self, stream: &mut Stream, tree: &mut Vec<Symbol>, depth: u32, open: usize) -> Option<()> {
        if tree.len() + open + 1 >= self.shorter_than {
            return None;
        }
        if depth >= self.max_depth || stream.below(4) != 0 {
            tree.push(stream.below(10) as Symbol);
            return Some(());
        }
        let operands = 2 + stream.below(self.max_args - 1);
        let operator = tree.len();
        tree.push(MIN);
        for _ in 0..operands {
            self.grow(stream, tree, depth + 1, open + 1)?;
        }
        tree[operator] = MIN + stream.below(4) as Symbol;
        tree.push(CLOSE);
        Some(())
    }

    /// How many different trees of at most `longest` tokens are kept: a lower bound on all that are kept.
    pub fn distinct(&self, longest: usize) -> f64 {
        let longest = longest.min(self.shorter_than - 1);
        let mut below = vec![0.0; longest + 1]; // by length, of trees one level down
        if longest >= 1 {
            below[1] = 10.0;
        }
        for _ in 1..self.max_depth.min(longest as u32 + 1) {
            let mut here = vec![0.0; longest + 1];
            let mut operands = below.clone(); // by length, of n operands together
            for _ in 2..=self.max_args.min(longest as u64) {
                operands = convolve(&operands, &below);
                for length in 2..=longest {
                    here[length] += 4.0 * operands[length - 2];
                }
            }
            if longest >= 1 {
                here[1] = 10.0;
            }
            below = here;
        }
        below.iter().skip(self.longer_than + 1).sum()
    }
}

/// Truncated to the length of its arguments, which are equally long.
fn convolve(a: &[f64], b: &[f64]) -> Vec<f64> {
    (0..a.len()).map(|i| (0..=i).map(|j| a[j] * b[i - j]).sum()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Split;
    use crate::core::rng::Purpose;
    use std::collections::HashSet;

    pub(super) fn symbols(text: &str) -> Vec<Symbol> {
        text.split_whitespace().map(|word| parse(word.as_bytes()).unwrap()).collect()
    }

    #[test]
    fn operators_give_the_values_worked_by_hand() {
        for (text, value) in [
            ("7", 7),
            ("[MIN 3 1 2 ]", 1),
            ("[MAX 3 1 2 ]", 3),
            ("[MED 9 1 5 ]", 5),
            ("[MED 4 1 ]", 2),     // 2.5 loses its fraction
            ("[MED 9 9 8 1 ]", 8), // 8.5
            ("[SM 9 9 5 ]", 3),
            ("[MAX 2 [MIN 8 4 ] [SM 1 [MED 0 9 3 ] ] ]", 4),
        ] {
            assert_eq!(evaluate(&symbols(text)), Ok(value), "{text}");
        }
    }

    #[test]
    fn an_expression_is_written_as_pairs_that_nest_to_the_left() {
        for (plain, paired) in [
            ("7", "7"),
            ("[MAX 2 7 ]", "( ( ( [MAX 2 ) 7 ) ] )"),
            ("[SM 1 2 3 ]", "( ( ( ( [SM 1 ) 2 ) 3 ) ] )"),
            ("[MIN 2 [MED 3 4 ] ]", "( ( ( [MIN 2 ) ( ( ( [MED 3 ) 4 ) ] ) ) ] )"),
        ] {
            let mut text = Vec::new();
            write(&symbols(plain), &mut text);
            assert_eq!(String::from_utf8(text).unwrap(), paired);
        }
    }

    #[test]
    fn what_is_not_an_expression_says_why() {
        for (text, why) in [
            ("", "the expression is empty"),
            ("[MIN 1 [MAX 2", "the expression ends with 2 brackets open"),
            ("1 2", "the expression is complete after 1 of 2 tokens"),
            ("]", "a `]` closes nothing"),
            ("[SM ]", "an operator has no operands"),
            ("[MED ]", "an operator has no operands"),
        ] {
            assert_eq!(evaluate(&symbols(text)).unwrap_err(), why, "{text:?}");
        }
    }

    #[test]
    fn drawn_trees_keep_to_length_depth_and_operand_limits() {
        let shape = Shape { longer_than: 20, shorter_than: 60, max_depth: 4, max_args: 5 };
        let mut tree = Vec::new();
        for index in 0..500 {
            let mut stream = Stream::new(0, Purpose::of_split("listops", Split::Train), index);
            shape.draw(&mut stream, &mut tree, 100_000).unwrap();
            assert!((21..60).contains(&tree.len()));
            evaluate(&tree).unwrap();
            let (mut operands, mut deepest) = (vec![0], 0);
            for &symbol in &tree {
                match symbol {
                    MIN..=SM => operands.push(0),
                    CLOSE => assert!((2..=5).contains(&operands.pop().unwrap())),
                    _ => {}
                }
                if !matches!(symbol, MIN..=SM) {
                    *operands.last_mut().unwrap() += 1;
                }
                deepest = deepest.max(operands.len() - 1);
            }
            assert!(deepest <= 3, "leaves are the fourth level");
        }
    }

    #[test]
    fn an_impossible_length_gives_up() {
        let shape = Shape { longer_than: 4, shorter_than: 6, max_depth: 9, max_args: 2 };
        let mut stream = Stream::new(0, Purpose::GUESS, 0);
        assert_eq!(shape.draw(&mut stream, &mut Vec::new(), 1_000), None, "binary trees have 1, 4, 7, … tokens");
    }

    #[test]
    fn the_count_of_distinct_trees_is_what_drawing_finds() {
        let shape = Shape { longer_than: 0, shorter_than: 6, max_depth: 2, max_args: 2 };
        let (mut seen, mut tree) = (HashSet::new(), Vec::new());
        let mut stream = Stream::new(0, Purpose::GUESS, 0);
        for _ in 0..20_000 {
            shape.draw(&mut stream, &mut tree, 1_000).unwrap();
            seen.insert(tree.clone());
        }
        assert_eq!(seen.len(), 10 + 4 * 100);
        assert_eq!(shape.distinct(24), 410.0);
        assert_eq!(Shape { max_args: 3, ..shape }.distinct(24), 4410.0);
        assert_eq!(Shape { shorter_than: 8, max_depth: 3, ..shape }.distinct(24), 410.0 + 4.0 * 2.0 * 10.0 * 400.0);
    }
}
