//! What can be fetched: addresses, sizes and checksums, as far as they are published.
//!
//! A value marked `recalled` was written down from memory of what public loaders use and was not held against the file
//! itself: a mismatch is then a question, not proof of damage. The user may answer it with `--accept-checksum`.

/// A data set as its authors publish it.
#[derive(Clone, Copy, Debug)]
pub struct DataSet {
    /// As typed: `mixarena data fetch imdb`.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Tasks that read it.
    pub tasks: &'static [&'static str],
    /// Who made it, and on what terms it may be used.
    pub licence: &'static str,
    /// What to download.
    pub files: &'static [RemoteFile],
    /// Where the set may lie besides, as tasks look for it: below the data folder, a `*` allowed in the last part.
    pub places: &'static [&'static str],
}

/// One file of a set.
#[derive(Clone, Copy, Debug)]
pub struct RemoteFile {
    /// Its address.
    pub url: &'static str,
    /// Its path below the data folder.
    pub target: &'static str,
    /// Its exact size, where published.
    pub bytes: Option<u64>,
    /// About its size, to look for room on the disk.
    pub about_bytes: u64,
    /// Its checksum, where published.
    pub checksum: Option<Checksum>,
    /// Whether size and checksum are from memory.
    pub recalled: bool,
}

/// A published checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// MD5, as hex.
    Md5(&'static str),
    /// SHA-256, as hex.
    Sha256(&'static str),
}

impl Checksum {
    /// `md5` or `sha256`.
    pub const fn algorithm(self) -> &'static str {
        match self {
            Self::Md5(_) => "md5",
            Self::Sha256(_) => "sha256",
        }
    }

    /// The sum.
    pub const fn hex(self) -> &'static str {
        match self {
            Self::Md5(hex) | Self::Sha256(hex) => hex,
        }
    }
}

impl RemoteFile {
    const fn unpublished(url: &'static str, target: &'static str, about_bytes: u64) -> Self {
        Self { url, target, bytes: None, about_bytes, checksum: None, recalled: false }
    }

    /// The last part of its target.
    pub fn name(&self) -> &'static str {
        self.target.rsplit('/').next().unwrap_or(self.target)
    }
}

/// Every set there is an address for.
pub const SETS: &[DataSet] = &[LISTOPS, LRA, AAN, IMDB, CIFAR10];

const LISTOPS: DataSet = DataSet {
    name: "listops",
    about: "ListOps of Long Range Arena, the three files alone",
    tasks: &["listops"],
    licence: "Tay et al. 2021 (Long Range Arena), after Nangia and Bowman 2018; Apache-2.0 project",
    files: &[
        RemoteFile::unpublished(
            "https://storage.googleapis.com/long-range-arena/lra_release/listops-1000/basic_train.tsv",
            "listops-1000/basic_train.tsv",
            800_000_000,
        ),
        RemoteFile::unpublished(
            "https://storage.googleapis.com/long-range-arena/lra_release/listops-1000/basic_val.tsv",
            "listops-1000/basic_val.tsv",
            20_000_000,
        ),
        RemoteFile::unpublished(
            "https://storage.googleapis.com/long-range-arena/lra_release/listops-1000/basic_test.tsv",
            "listops-1000/basic_test.tsv",
            20_000_000,
        ),
    ],
    places: &[
        "lra_release/listops-1000",
        "lra_release/lra_release/listops-1000",
        "listops/*.tar.gz",
        "listops*.tar.gz",
    ],
};

const LRA: DataSet = DataSet {
    name: "lra",
    about: "the Long Range Arena release: ListOps, AAN pairs with texts, Pathfinder 32 to 256 (7.7 GB)",
    tasks: &["listops", "retrieval", "pathfinder"],
    licence: "Tay et al. 2021; each part keeps its own terms, AAN texts may not be passed on",
    files: &[RemoteFile::unpublished(
        "https://storage.googleapis.com/long-range-arena/lra_release.gz",
        "lra_release.tar.gz", // its name at the server hides that it is a tar
        7_700_000_000,
    )],
    places: &["lra_release", "lra_release*.tar.gz"],
};

const AAN: DataSet = DataSet {
    name: "aan",
    about: "AAN pair ids of Long Range Arena, without the papers' texts",
    tasks: &["retrieval"],
    licence: "Radev et al. 2013 (ACL Anthology Network); the texts are not included and may not be passed on",
    files: &[
        RemoteFile::unpublished(
            "https://storage.googleapis.com/long-range-arena/lra_release/aan/new_aan_pairs.train.only_ids.tsv",
            "aan/new_aan_pairs.train.only_ids.tsv",
            5_000_000,
        ),
        RemoteFile::unpublished(
            "https://storage.googleapis.com/long-range-arena/lra_release/aan/new_aan_pairs.eval.only_ids.tsv",
            "aan/new_aan_pairs.eval.only_ids.tsv",
            1_000_000,
        ),
        RemoteFile::unpublished(
            "https://storage.googleapis.com/long-range-arena/lra_release/aan/new_aan_pairs.test.only_ids.tsv",
            "aan/new_aan_pairs.test.only_ids.tsv",
            1_000_000,
        ),
    ],
    places: &[],
};

const IMDB: DataSet = DataSet {
    name: "imdb",
    about: "Large Movie Review Dataset v1.0: 50,000 labelled film reviews",
    tasks: &["text"],
    licence: "Maas et al. 2011; research use, cite the paper",
    files: &[RemoteFile {
        url: "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
        target: "aclImdb_v1.tar.gz",
        bytes: Some(84_125_825),
        about_bytes: 84_125_825,
        checksum: Some(Checksum::Md5("7c2ac02c03563afcf9b574c7e56c153a")),
        recalled: true,
    }],
    places: &["aclImdb", "imdb/aclImdb", "aclImdb*.tar.gz", "imdb/*.tar.gz"],
};

const CIFAR10: DataSet = DataSet {
    name: "cifar10",
    about: "CIFAR-10, binary version: 60,000 colour pictures of 32 x 32",
    tasks: &["image"],
    licence: "Krizhevsky 2009; no terms stated, cite the report",
    files: &[RemoteFile {
        url: "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        target: "cifar-10-binary.tar.gz",
        bytes: None,
        about_bytes: 170_000_000,
        checksum: Some(Checksum::Md5("c32a1d4ab5d03f1284b67883e8d87530")),
        recalled: true,
    }],
    places: &["cifar-10-batches-bin", "cifar10/cifar-10-batches-bin", "cifar-10-binary*.tar.gz", "cifar10/*.tar.gz"],
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::path::{Component, Path};

    #[test]
    fn names_are_distinct_and_targets_stay_in_the_data_folder() {
        let names: HashSet<&str> = SETS.iter().map(|set| set.name).collect();
        assert_eq!(names.len(), SETS.len());
        let files: Vec<&RemoteFile> = SETS.iter().flat_map(|set| set.files).collect();
        let targets: HashSet<&str> = files.iter().map(|file| file.target).collect();
        assert_eq!(targets.len(), files.len());
        for file in files {
            assert!(Path::new(file.target).components().all(|part| matches!(part, Component::Normal(_))));
            assert!(file.url.starts_with("https://"), "{}", file.url);
        }
    }

    #[test]
    fn checksums_have_the_length_of_their_algorithm() {
        for file in SETS.iter().flat_map(|set| set.files) {
            let Some(sum) = file.checksum else { continue };
            let length = if sum.algorithm() == "md5" { 32 } else { 64 };
            assert!(sum.hex().len() == length && sum.hex().chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')));
        }
    }
}
