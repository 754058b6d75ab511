//! Smaller pictures, for sizes that a CPU can train on.

/// The grey values of a square picture with `from` pixels a side, as one with `side` of them: blocks of pixels are averaged,
/// and halves are rounded up. Row by row; `side` must divide `from`.
pub(crate) fn averaged(grey: impl Fn(usize) -> u32, from: usize, side: usize) -> Vec<i64> {
    let block = from / side;
    let area = (block * block) as u32;
    let average = |y: usize, x: usize| {
        let rows = (0..block).map(|dy| (block * y + dy) * from + block * x);
        let sum: u32 = rows.flat_map(|row| row..row + block).map(&grey).sum();
        i64::from((sum + area / 2) / area)
    };
    (0..side * side).map(|at| average(at / side, at % side)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_averaged_and_halves_rounded_up() {
        let picture = [0, 1, 10, 10, 1, 0, 10, 10, 255, 255, 4, 4, 255, 255, 4, 5];
        assert_eq!(averaged(|at| picture[at], 4, 2), [1, 10, 255, 4]);
        assert_eq!(averaged(|at| picture[at], 4, 4), picture.map(i64::from));
    }
}
