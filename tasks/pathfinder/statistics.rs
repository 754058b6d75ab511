//! What can be measured on any image of this task, ours or the official: ink, and how many pieces it lies in.

/// Thresholds at which ink is counted, in grey values.
pub const THRESHOLDS: [u8; 2] = [50, 127];

/// What one image shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Facts {
    /// Mean grey value, 0 ..= 255.
    pub intensity: f64,
    /// Share of pixels above each of [`THRESHOLDS`].
    pub ink: [f64; 2],
    /// Pieces of ink above each of [`THRESHOLDS`]; pixels touch along edges and at corners.
    pub components: [u32; 2],
}

/// Measures an image of side `side`.
pub fn facts(pixels: &[u8], side: usize) -> Facts {
    let of_all = pixels.len().max(1) as f64;
    let above = |threshold: u8| pixels.iter().filter(|&&pixel| pixel > threshold).count() as f64 / of_all;
    Facts {
        intensity: pixels.iter().map(|&pixel| f64::from(pixel)).sum::<f64>() / of_all,
        ink: THRESHOLDS.map(above),
        components: THRESHOLDS.map(|threshold| components(pixels, side, threshold)),
    }
}

/// Pieces of pixels above `threshold`, by flooding.
fn components(pixels: &[u8], side: usize, threshold: u8) -> u32 {
    let mut unseen: Vec<bool> = pixels.iter().map(|&pixel| pixel > threshold).collect();
    let (mut pieces, mut wet) = (0, Vec::new());
    for start in 0..unseen.len() {
        if !std::mem::take(&mut unseen[start]) {
            continue;
        }
        pieces += 1;
        wet.push(start);
        while let Some(at) = wet.pop() {
            let around = |c: usize| c.saturating_sub(1)..(c + 2).min(side);
            for near in around(at / side).flat_map(|y| around(at % side).map(move |x| y * side + x)) {
                if std::mem::take(&mut unseen[near]) {
                    wet.push(near);
                }
            }
        }
    }
    pieces
}

/// Means over many images.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Images.
    pub images: u64,
    /// Share with label 1.
    pub positive: f64,
    /// Mean grey value, 0 ..= 255.
    pub intensity: f64,
    /// Mean share of pixels above each of [`THRESHOLDS`].
    pub ink: [f64; 2],
    /// Mean number of pieces above each of [`THRESHOLDS`].
    pub components: [f64; 2],
}

impl Statistics {
    /// Measures images of side `side`, each with its label.
    pub fn of<'a>(side: usize, images: impl IntoIterator<Item = (&'a [u8], u8)>) -> Self {
        let mut sum = Self::default();
        images.into_iter().for_each(|(pixels, label)| sum.add(&facts(pixels, side), label));
        sum
    }

    /// Adds an image.
    pub fn add(&mut self, facts: &Facts, label: u8) {
        self.images += 1;
        let part = 1.0 / self.images as f64;
        let blend = |mean: &mut f64, value: f64| *mean += (value - *mean) * part;
        blend(&mut self.positive, f64::from(label));
        blend(&mut self.intensity, facts.intensity);
        for i in 0..THRESHOLDS.len() {
            blend(&mut self.ink[i], facts.ink[i]);
            blend(&mut self.components[i], f64::from(facts.components[i]));
        }
    }

    /// In words, for a report.
    pub fn rows(&self) -> Vec<(String, String)> {
        let percent = |share: f64| format!("{:.2} %", 100.0 * share);
        let mut rows = vec![
            ("images".to_owned(), self.images.to_string()),
            ("label 1".to_owned(), percent(self.positive)),
            ("mean intensity".to_owned(), format!("{:.2} of 255", self.intensity)),
        ];
        for (threshold, ink) in THRESHOLDS.into_iter().zip(self.ink) {
            rows.push((format!("ink above {threshold}"), percent(ink)));
        }
        for (threshold, pieces) in THRESHOLDS.into_iter().zip(self.components) {
            rows.push((format!("pieces above {threshold}"), format!("{pieces:.2}")));
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_touch_at_corners_and_thresholds_are_strict() {
        #[rustfmt::skip]
        let pixels = [
            255,   0,   0, 255,
              0, 128,   0,   0,
              0,   0,   0,  51,
            127,  50,   0,   0,
        ];
        let facts = facts(&pixels, 4);
        assert_eq!(facts.components, [4, 2]);
        assert_eq!(facts.ink, [5.0 / 16.0, 3.0 / 16.0]);
        assert_eq!(facts.intensity, 866.0 / 16.0);
    }

    #[test]
    fn means_are_over_images() {
        let (dark, light) = ([0_u8; 4], [255_u8; 4]);
        let all = Statistics::of(2, [(&dark[..], 0), (&light[..], 1), (&light[..], 1), (&dark[..], 1)]);
        assert_eq!((all.images, all.positive, all.intensity), (4, 0.75, 127.5));
        assert_eq!((all.ink, all.components), ([0.5; 2], [0.5; 2]));
    }
}
