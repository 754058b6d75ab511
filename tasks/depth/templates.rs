//! Templates: strings over wildcards, one for each way to say which positions agree.

/// Longest template: the Bell number of 10 is 115,975.
pub(super) const LONGEST: u32 = 10;

/// Templates of `length` positions: the Bell number, the partitions of a set of so many, by the triangle of Aitken (1933).
pub(super) fn count(length: u32) -> u64 {
    let mut row = vec![1_u64];
    for _ in 1..length {
        let mut next = vec![*row.last().expect("rows are not empty")];
        for above in &row {
            next.push(next[next.len() - 1].saturating_add(*above));
        }
        row = next;
    }
    *row.last().expect("rows are not empty")
}

/// Every template of `length` positions, wildcards numbered by their first use (restricted growth strings), in the order of
/// the alphabet: AAA, AAB, ABA, ABB, ABC.
pub(super) fn all(length: u32) -> Vec<Vec<usize>> {
    let mut templates = vec![Vec::new()];
    for _ in 0..length {
        let longer = |template: Vec<usize>| {
            let used = wildcards(&template);
            (0..=used).map(move |wildcard| {
                let mut template = template.clone();
                template.push(wildcard);
                template
            })
        };
        templates = templates.into_iter().flat_map(longer).collect();
    }
    templates
}

/// Different wildcards of a template.
pub(super) fn wildcards(template: &[usize]) -> usize {
    template.iter().max().map_or(0, |most| most + 1)
}

/// The template a sequence is of.
pub(super) fn of(sequence: &[i64]) -> Vec<usize> {
    let mut seen: Vec<i64> = Vec::new();
    let number = |symbol: &i64| {
        seen.iter().position(|known| known == symbol).unwrap_or_else(|| {
            seen.push(*symbol);
            seen.len() - 1
        })
    };
    sequence.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_templates_as_the_bell_number_says() {
        // OEIS A000110
        assert_eq!([1, 2, 3, 4, 5, 6, 10].map(count), [1, 2, 5, 15, 52, 203, 115_975]);
        for length in 1..=7 {
            assert_eq!(all(length).len() as u64, count(length));
        }
        assert_eq!(all(3), [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1], [0, 1, 2]]);
    }

    #[test]
    fn a_template_is_read_off_any_sequence_of_it() {
        assert_eq!(of(&[7, 7, 3, 7]), [0, 0, 1, 0]);
        assert!(all(5).iter().all(|t| of(&t.iter().map(|&w| 50 - 3 * w as i64).collect::<Vec<_>>()) == *t));
        assert_eq!(wildcards(&[0, 1, 0, 2]), 3);
    }
}
