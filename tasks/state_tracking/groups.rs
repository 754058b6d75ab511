//! Finite groups by name: `z60`, `s5`, `a4xz5`.

/// Largest order: the table of products has its square as entries.
pub const LARGEST: u64 = 720;

/// A finite group of permutations, with its table of products.
#[derive(Clone, Debug)]
pub struct Group {
    /// The permutations, in lexicographic order: the first is the identity.
    pub elements: Vec<Vec<u16>>,
    /// `table[a * order + b]`: a, then b.
    table: Vec<u16>,
}

impl Group {
    /// The group called `name`; otherwise what is wrong with the name.
    pub fn named(name: &str) -> Result<Self, String> {
        let factors: Vec<Factor> = name.split('x').map(Factor::parse).collect::<Result<_, _>>()?;
        let order = factors.iter().fold(1, |order: u64, factor| order.saturating_mul(factor.order()));
        if order < 2 {
            return Err("it has a single element, so there is nothing to track".to_owned());
        }
        if order > LARGEST {
            let orders: Vec<String> = factors.iter().map(|factor| factor.order().to_string()).collect();
            let inequality =
                if orders.len() == 1 { order.to_string() } else { format!("{} = {order}", orders.join("·")) };
            return Err(format!("its order {inequality} > {LARGEST}, the largest there is a table for"));
        }
        let mut elements: Vec<Vec<u16>> = vec![Vec::new()];
        for factor in factors {
            let own = factor.elements();
            // The factors move points of their own, one factor's behind the other's.
            let beside = |left: &Vec<u16>, right: &[u16]| {
                left.iter().copied().chain(right.iter().map(|point| left.len() as u16 + point)).collect()
            };
            elements = elements.iter().flat_map(|left| own.iter().map(move |right| beside(left, right))).collect();
        }
        let number = |permutation: &Vec<u16>| elements.binary_search(permutation).expect("a group is closed") as u16;
        let table = elements.iter().flat_map(|a| elements.iter().map(move |b| number(&then(a, b)))).collect();
        Ok(Self { elements, table })
    }

    /// Elements.
    pub fn order(&self) -> usize {
        self.elements.len()
    }

    /// a, then b, by number.
    pub fn product(&self, a: i64, b: i64) -> i64 {
        i64::from(self.table[a as usize * self.order() + b as usize])
    }
}

/// The permutation that moves each point as `a` does, then as `b` does.
pub fn then(a: &[u16], b: &[u16]) -> Vec<u16> {
    a.iter().map(|&point| b[usize::from(point)]).collect()
}

/// One factor of a product.
#[derive(Clone, Copy)]
enum Factor {
    Cyclic(u64),
    Symmetric(u64),
    Alternating(u64),
}

impl Factor {
    fn parse(name: &str) -> Result<Self, String> {
        let family = match name.chars().next() {
            Some('z') => Self::Cyclic,
            Some('s') => Self::Symmetric,
            Some('a') => Self::Alternating,
            _ => return Err(format!("`{name}` is no group")),
        };
        match name[1..].parse() {
            Ok(n) if n > 0 && !name[1..].starts_with(['+', '0']) => Ok(family(n)),
            _ => Err(format!("`{name}` is no group: `{}` is no number of points", &name[1..])),
        }
    }

    fn order(self) -> u64 {
        let factorial = |n: u64| (2..=n.min(30)).fold(1, u64::saturating_mul);
        match self {
            Self::Cyclic(n) => n,
            Self::Symmetric(n) => factorial(n),
            Self::Alternating(n) => (factorial(n) / 2).max(1),
        }
    }

    /// Its permutations in lexicographic order.
    fn elements(self) -> Vec<Vec<u16>> {
        match self {
            Self::Cyclic(n) => (0..n).map(|by| (0..n).map(|point| ((point + by) % n) as u16).collect()).collect(),
            Self::Symmetric(n) => permutations(n as u16),
            Self::Alternating(n) => permutations(n as u16).into_iter().filter(|p| is_even(p)).collect(),
        }
    }
}

/// Every permutation of `0 .. n`, in lexicographic order.
fn permutations(n: u16) -> Vec<Vec<u16>> {
    let mut done: Vec<Vec<u16>> = vec![Vec::new()];
    for _ in 0..n {
        let extend = |begun: &Vec<u16>| {
            let left: Vec<u16> = (0..n).filter(|point| !begun.contains(point)).collect();
            let begun = begun.clone();
            left.into_iter().map(move |point| begun.iter().copied().chain([point]).collect())
        };
        done = done.iter().flat_map(extend).collect();
    }
    done
}

/// Whether an even number of pairs stand in the wrong order.
fn is_even(permutation: &[u16]) -> bool {
    let inversions = (0..permutation.len())
        .flat_map(|i| permutation[i..].iter().map(move |later| (i, later)))
        .filter(|&(i, later)| permutation[i] > *later);
    inversions.count() % 2 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Elements of each order: a group of at most 60 elements met here is told from the others by it.
    fn orders(name: &str) -> Vec<(usize, usize)> {
        let group = Group::named(name).unwrap();
        let mut counts = std::collections::BTreeMap::new();
        for element in 0..group.order() as i64 {
            let (mut power, mut order) = (element, 1);
            while power != 0 {
                power = group.product(power, element);
                order += 1;
            }
            *counts.entry(order).or_insert(0) += 1;
        }
        counts.into_iter().collect()
    }

    #[test]
    fn the_groups_of_the_word_problem_are_who_they_say() {
        assert_eq!(orders("s3"), [(1, 1), (2, 3), (3, 2)]);
        assert_eq!(orders("s4"), [(1, 1), (2, 9), (3, 8), (4, 6)]);
        assert_eq!(orders("a5"), [(1, 1), (2, 15), (3, 20), (5, 24)]);
        assert_eq!(orders("s5"), [(1, 1), (2, 25), (3, 20), (4, 30), (5, 24), (6, 20)]);
        assert_eq!(orders("a4xz5"), [(1, 1), (2, 3), (3, 8), (5, 4), (10, 12), (15, 32)]);
        assert_eq!(orders("z60").len(), 12, "one for each divisor of 60");
        assert_eq!(orders("z2"), [(1, 1), (2, 1)]);
    }

    #[test]
    fn products_obey_the_laws_of_a_group() {
        for name in ["s3", "s4", "a4", "z7", "z2xz3", "s3xz2", "z300"] {
            let group = Group::named(name).unwrap();
            let n = group.order() as i64;
            assert!(group.elements.is_sorted(), "{name}");
            assert!(
                group.elements[0].iter().copied().eq(0..group.elements[0].len() as u16),
                "{name}: 0 is the identity"
            );
            for a in 0..n {
                assert_eq!((group.product(a, 0), group.product(0, a)), (a, a), "{name}");
                let mut row: Vec<i64> = (0..n).map(|b| group.product(a, b)).collect();
                row.sort_unstable();
                assert!(row.into_iter().eq(0..n), "{name}: dividing is possible");
            }
            for (a, b, c) in (0..n.min(12)).flat_map(|a| (0..n.min(12)).map(move |b| (a, b, (a * 5 + b * 3) % n))) {
                assert_eq!(group.product(group.product(a, b), c), group.product(a, group.product(b, c)), "{name}");
            }
        }
        let s3 = Group::named("s3").unwrap();
        assert_ne!(s3.product(1, 2), s3.product(2, 1));
        // 021 and then 102: point 0 stays and goes to 1, point 1 goes to 2 and stays, point 2 goes to 1 and then to 0.
        assert_eq!(s3.elements[s3.product(1, 2) as usize], [1, 2, 0]);
    }

    #[test]
    fn cyclic_groups_add() {
        let group = Group::named("z60").unwrap();
        assert!((0..60).all(|a| (0..60).all(|b| group.product(a, b) == (a + b) % 60)));
    }

    #[test]
    fn names_of_no_group_are_refused_with_the_reason() {
        let refused = |name: &str| Group::named(name).unwrap_err();
        assert_eq!(refused("d4"), "`d4` is no group");
        assert_eq!(refused("s3xq"), "`q` is no group");
        assert_eq!(refused("s"), "`s` is no group: `` is no number of points");
        assert_eq!(refused("z-3"), "`z-3` is no group: `-3` is no number of points");
        assert_eq!(refused("s7"), "its order 5040 > 720, the largest there is a table for");
        assert_eq!(refused("s5xs4"), "its order 120·24 = 2880 > 720, the largest there is a table for");
        assert_eq!(refused("s99999999xs88"), refused("s99999999xs88"));
        assert_eq!(refused("a2"), "it has a single element, so there is nothing to track");
        assert!(refused("").contains("is no group"));
    }
}
