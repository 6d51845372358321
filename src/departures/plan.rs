//! What belongs to a workspace or to a user, and in which order its tables stand.

use super::tables::{Catalog, ForeignKey, Table};
use crate::context::membership;
use crate::error::{CodexError, Outcome};
use crate::schema::foundation;
use codex_order::{Reference, order};
use pgrx::spi::SpiClient;

/// Who leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A workspace, with all its rows.
    Workspace,
    /// A user, out of all workspaces.
    User,
}

/// The key of the table of workspaces and of the table of users.
const KEY: &str = "id";

/// By what a row belongs to somebody.
#[derive(Clone, PartialEq, Eq)]
pub enum Link {
    /// Its column holds the id.
    Column(String),
    /// It goes along with a row that it refers to, by this foreign key.
    Along(usize),
}

/// A table that holds rows of somebody.
pub struct Member {
    /// Its place in the catalog.
    pub table: usize,
    /// Any of these makes a row belong.
    pub links: Vec<Link>,
}

/// References of rows that stay to rows that go.
pub struct Loosening {
    /// The table of the rows that stay.
    pub table: usize,
    /// UPDATE, with the id as its parameter.
    pub sql: String,
    /// The columns that become NULL.
    pub columns: Vec<String>,
}

/// The tables that hold rows of a workspace, or of a user.
pub struct Plan {
    pub catalog: Catalog,
    /// The table of workspaces, or of users.
    pub root: usize,
    /// The tables, each after those that it refers to. The root is not among them.
    pub members: Vec<Member>,
    /// Foreign keys between members that point forward all the same, because tables refer to each other in a circle.
    pub broken: Vec<usize>,
    subject: Subject,
}

impl Plan {
    /// Makes it from the catalog.
    pub fn make(client: &SpiClient<'_>, subject: Subject) -> Outcome<Self> {
        let catalog = Catalog::read(client)?;
        let workspaces = membership::table_named(c"public", c"workspaces")
            .and_then(|oid| catalog.place_of(oid))
            .ok_or_else(|| no_table("of workspaces"))?;
        let users = foundation::installed_users(client)?.and_then(|oid| catalog.place_of(oid));
        let (root, members) = match subject {
            Subject::Workspace => (workspaces, of_a_workspace(&catalog, workspaces, users)),
            Subject::User => {
                let users = users.ok_or_else(|| no_table("of users"))?;
                (users, of_a_user(&catalog, users, workspaces))
            }
        };
        let (members, broken) = in_order(&catalog, members);
        Ok(Self {
            catalog,
            root,
            members,
            broken,
            subject,
        })
    }

    /// The table of workspaces, or of users.
    pub fn root(&self) -> &Table {
        &self.catalog.tables[self.root]
    }

    /// The table of a member.
    pub fn table(&self, member: &Member) -> &Table {
        &self.catalog.tables[member.table]
    }

    /// The condition under which a row of the table called `alias` is the root's own.
    pub fn is_root(alias: &str) -> String {
        format!("{alias}.{KEY} = $1")
    }

    /// The condition under which a row of a member called `alias` belongs to the id `$1`.
    pub fn belongs(&self, member: &Member, alias: &str) -> String {
        self.any_link(&member.links, alias, &mut vec![member.table])
    }

    /// The condition for one link alone.
    pub fn belongs_by(&self, member: &Member, link: &Link, alias: &str) -> String {
        self.link(link, alias, &mut vec![member.table])
            .unwrap_or_else(|| "false".to_string())
    }

    fn any_link(&self, links: &[Link], alias: &str, passed: &mut Vec<usize>) -> String {
        let conditions = links
            .iter()
            .filter_map(|link| self.link(link, alias, passed))
            .collect::<Vec<_>>();
        if conditions.is_empty() {
            "false".to_string()
        } else {
            conditions.join(" OR ")
        }
    }

    /// None for a link that leads back to a table that was passed.
    fn link(&self, link: &Link, alias: &str, passed: &mut Vec<usize>) -> Option<String> {
        match link {
            Link::Column(column) => Some(format!("{alias}.{column} = $1")),
            Link::Along(key) => self.refers_to_one_that_goes(*key, alias, passed),
        }
    }

    fn refers_to_one_that_goes(
        &self,
        key: usize,
        alias: &str,
        passed: &mut Vec<usize>,
    ) -> Option<String> {
        let key = &self.catalog.foreign_keys[key];
        if passed.contains(&key.parent) {
            return None;
        }
        let parent = format!("r{}", passed.len());
        let belongs = if key.parent == self.root {
            Self::is_root(&parent)
        } else {
            let member = self.members.iter().find(|m| m.table == key.parent)?;
            passed.push(key.parent);
            let belongs = self.any_link(&member.links, &parent, passed);
            passed.pop();
            belongs
        };
        let joined = key
            .columns
            .iter()
            .zip(&key.refers_to)
            .map(|(from, to)| format!("{parent}.{to} = {alias}.{from}"))
            .collect::<Vec<_>>()
            .join(" AND ");
        Some(format!(
            "EXISTS (SELECT FROM {} AS {parent} WHERE {joined} AND ({belongs}))",
            self.catalog.tables[key.parent].only()
        ))
    }

    /// What has to be loosened before rows are deleted, because Postgres would refuse to delete them.
    pub fn loosen_before(&self) -> Vec<Loosening> {
        let is_member = |table: usize| self.members.iter().any(|m| m.table == table);
        let keys = self.catalog.foreign_keys.iter().enumerate();
        keys.filter(|(place, key)| {
            let stays = !is_member(key.child) || self.broken.contains(place);
            let goes = is_member(key.parent)
                || self.subject == Subject::Workspace && key.parent == self.root;
            goes && stays && !key.goes_along() && !key.is_seen_to()
        })
        .filter_map(|(place, key)| {
            let condition = self.refers_to_one_that_goes(place, "r0", &mut vec![key.child])?;
            Some(self.loosening(key, &condition))
        })
        .collect()
    }

    fn loosening(&self, key: &ForeignKey, condition: &str) -> Loosening {
        let emptied = key
            .nullable
            .iter()
            .map(|column| format!("{column} = NULL"))
            .collect::<Vec<_>>()
            .join(", ");
        Loosening {
            table: key.child,
            columns: key.nullable.clone(),
            sql: format!(
                "UPDATE {} AS r0 SET {emptied} WHERE {condition}",
                self.catalog.tables[key.child].only()
            ),
        }
    }

    /// The references to a user that become NULL: one UPDATE a table.
    pub fn anonymise(&self) -> Vec<Loosening> {
        (0..self.catalog.tables.len())
            .filter_map(|table| {
                let columns = self.nulled_columns(table);
                if columns.is_empty() {
                    return None;
                }
                let set = columns
                    .iter()
                    .map(|column| format!("{column} = nullif(r0.{column}, $1)"))
                    .collect::<Vec<_>>()
                    .join(", ");
                let condition = columns
                    .iter()
                    .map(|column| format!("r0.{column} = $1"))
                    .collect::<Vec<_>>()
                    .join(" OR ");
                Some(Loosening {
                    table,
                    sql: format!(
                        "UPDATE {} AS r0 SET {set} WHERE {condition}",
                        self.catalog.tables[table].only()
                    ),
                    columns,
                })
            })
            .collect()
    }

    /// The columns of a table that refer to a user and become NULL.
    fn nulled_columns(&self, table: usize) -> Vec<String> {
        if self.subject != Subject::User {
            return Vec::new();
        }
        let mut columns = self
            .catalog
            .foreign_keys
            .iter()
            .filter(|key| {
                key.child == table
                    && key.parent == self.root
                    && key.refers_to == [KEY]
                    && !key.goes_along()
            })
            .filter_map(|key| key.columns.first().cloned())
            .collect::<Vec<_>>();
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// The columns of the table of workspaces by which a workspace would go along with its user.
    pub fn owning_columns(&self) -> Outcome<(usize, Vec<String>)> {
        let workspaces = membership::table_named(c"public", c"workspaces")
            .and_then(|oid| self.catalog.place_of(oid))
            .ok_or_else(|| no_table("of workspaces"))?;
        let columns = self
            .catalog
            .foreign_keys
            .iter()
            .filter(|key| {
                key.child == workspaces
                    && key.parent == self.root
                    && key.refers_to == [KEY]
                    && key.goes_along()
            })
            .filter_map(|key| key.columns.first().cloned())
            .collect();
        Ok((workspaces, columns))
    }
}

fn no_table(what: &str) -> CodexError {
    CodexError::wrong_state(format!(
        "the tables of the Codex are not complete in this database: there is no table {what}"
    ))
    .with_hint(
        "Run SELECT * FROM codex.migrate(); SELECT * FROM codex.verify() tells what is missing.",
    )
}

/// The columns by which a table refers to the key of `root`, where its rows go along with that.
fn columns_along(catalog: &Catalog, table: usize, root: usize) -> impl Iterator<Item = Link> {
    catalog
        .foreign_keys
        .iter()
        .filter(move |key| {
            key.child == table && key.parent == root && key.refers_to == [KEY] && key.goes_along()
        })
        .filter_map(|key| key.columns.first().cloned())
        .map(Link::Column)
}

/// The tables of a workspace: those with a column that says so, and those whose rows go along with such rows.
fn of_a_workspace(catalog: &Catalog, root: usize, users: Option<usize>) -> Vec<Member> {
    let mut members = Vec::new();
    for (place, table) in catalog.tables.iter().enumerate() {
        if place == root || Some(place) == users {
            continue;
        }
        let links = match &table.workspace_column {
            Some(column) => vec![Link::Column(column.clone())],
            None => columns_along(catalog, place, root).collect(),
        };
        if !links.is_empty() {
            members.push(Member {
                table: place,
                links,
            });
        }
    }
    let by_column: Vec<usize> = members.iter().map(|m| m.table).collect();
    add_those_that_go_along(catalog, &mut members, root, |table| {
        table == root || Some(table) == users || by_column.contains(&table)
    });
    members
}

/// The tables of a user: those of which a row is somebody's own, and those whose rows go along with such rows.
fn of_a_user(catalog: &Catalog, root: usize, workspaces: usize) -> Vec<Member> {
    let mut members = Vec::new();
    for (place, table) in catalog.tables.iter().enumerate() {
        if place == root || place == workspaces {
            continue;
        }
        let mut links: Vec<Link> = columns_along(catalog, place, root).collect();
        // A foreign key that says SET NULL wants the row to stay.
        if let Some(column) = &table.user_column
            && !catalog.foreign_keys.iter().any(|key| {
                key.child == place && key.parent == root && key.columns == [column.clone()]
            })
        {
            links.push(Link::Column(column.clone()));
        }
        links.dedup_by(|a, b| a == b);
        if !links.is_empty() {
            members.push(Member {
                table: place,
                links,
            });
        }
    }
    add_those_that_go_along(catalog, &mut members, root, |table| {
        table == root || table == workspaces
    });
    members
}

/// Adds, until there are no more, the tables and links by which rows go along with rows of the members.
fn add_those_that_go_along(
    catalog: &Catalog,
    members: &mut Vec<Member>,
    root: usize,
    left_alone: impl Fn(usize) -> bool,
) {
    loop {
        let mut added = false;
        for (place, key) in catalog.foreign_keys.iter().enumerate() {
            let by_another_key_of_root = key.parent == root && key.refers_to != [KEY];
            let goes = by_another_key_of_root || members.iter().any(|m| m.table == key.parent);
            if !goes || !key.goes_along() || key.child == key.parent || left_alone(key.child) {
                continue;
            }
            let link = Link::Along(place);
            match members.iter_mut().find(|m| m.table == key.child) {
                Some(member) if member.links.contains(&link) => continue,
                Some(member) => member.links.push(link),
                None => members.push(Member {
                    table: key.child,
                    links: vec![link],
                }),
            }
            added = true;
        }
        if !added {
            return;
        }
    }
}

/// The members, each after those it refers to; and the foreign keys for which that cannot be.
fn in_order(catalog: &Catalog, mut members: Vec<Member>) -> (Vec<Member>, Vec<usize>) {
    members.sort_by_key(|member| member.table);
    let number = |table: usize| members.binary_search_by_key(&table, |m| m.table).ok();
    let (mut references, mut keys) = (Vec::new(), Vec::new());
    for (place, key) in catalog.foreign_keys.iter().enumerate() {
        if let (Some(from), Some(to)) = (number(key.child), number(key.parent)) {
            references.push(Reference {
                from,
                to,
                optional: !key.nullable.is_empty(),
            });
            keys.push(place);
        }
    }
    let order = order(members.len(), &references);
    let broken = order.broken.iter().map(|&place| keys[place]).collect();
    let mut slots: Vec<Option<Member>> = members.into_iter().map(Some).collect();
    let sequence = order
        .sequence
        .iter()
        .filter_map(|&place| slots[place].take())
        .collect();
    (sequence, broken)
}
