//! The mixers and tasks a build of the command line knows.

/// Lists, not strings: a crate of the user's own pushes entries and calls [`crate::main_with`].
#[derive(Clone, Debug)]
pub struct Registry {
    /// Mixers, in the order `mixarena list mixers` prints them.
    pub mixers: Vec<mixers::Entry>,
    /// Tasks, likewise.
    pub tasks: Vec<tasks::Entry>,
}

impl Default for Registry {
    /// What ships with Mixarena.
    fn default() -> Self {
        Self { mixers: mixers::registry(), tasks: tasks::registry() }
    }
}

impl Registry {
    /// The mixer of that name.
    pub fn mixer(&self, name: &str) -> Option<&mixers::Entry> {
        self.mixers.iter().find(|m| m.name == name)
    }

    /// The task of that name.
    pub fn task(&self, name: &str) -> Option<&tasks::Entry> {
        self.tasks.iter().find(|t| t.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_names_published_tasks_that_there_are() {
        let mut named = 0;
        for task in Registry::default().tasks {
            for variant in (task.variants)() {
                let published = task.published(&variant.settings);
                let known = published.is_none_or(|name| results::published::TASKS.contains(&name));
                assert!(known, "{} {}: {published:?}", task.name, variant.settings);
                named += usize::from(published.is_some());
            }
        }
        assert!(named > 10, "{named} are compared with published numbers");
    }
}
