//! How a client's values reach the placeholders of its statements; the same on the read and on the write path.
//!
//! Pure but for the binding itself; any thread.

use super::sqlite::{Error, Statement};
use crate::command::Parameter;

/// Deals the values of one SQL string out to its statements, in order.
pub struct Binder<'a> {
    parameters: &'a [Parameter],
    /// Values that earlier statements of the string have used up.
    consumed: usize,
}

/// Why a statement's values cannot be bound.
#[derive(Debug, PartialEq)]
pub enum BindError {
    /// The client's mistake, with the text to answer.
    Client(String),
    /// SQLite refused a value (too big).
    Sqlite(Error),
}

impl<'a> Binder<'a> {
    /// # Errors
    /// The text of the error when a name is malformed.
    pub fn new(parameters: &'a [Parameter]) -> Result<Binder<'a>, String> {
        for name in parameters.iter().filter_map(name_of) {
            if !name.chars().next().is_some_and(char::is_alphabetic) {
                return Err(format!("name {name:?} does not begin with a letter"));
            }
        }
        Ok(Binder { parameters, consumed: 0 })
    }

    /// How many values the statements so far have used up.
    pub fn consumed(&self) -> usize {
        self.consumed
    }

    /// Goes on after statements that have used up as many.
    pub fn resume(&mut self, consumed: usize) {
        self.consumed = consumed;
    }

    /// Binds the next statement of the string. It takes as many values from the left as it has placeholders; value
    /// `n` of these, when it has no name, goes to placeholder `n`. A value with a name goes to the placeholders of
    /// this name in every statement of the string. Later values win.
    ///
    /// # Errors
    /// Too few values, or one that SQLite refuses.
    pub fn bind(&mut self, statement: &mut Statement) -> Result<(), BindError> {
        let wanted = statement.parameter_count();
        if wanted == 0 {
            return Ok(());
        }
        let left = &self.parameters[self.consumed.min(self.parameters.len())..];
        if left.len() < wanted && !(self.consumed > 0 && self.names_suffice(statement)) {
            let text = format!("not enough args to execute query: want {wanted} got {}", left.len());
            return Err(BindError::Client(text));
        }
        let own = self.consumed..self.consumed + wanted;
        for (position, parameter) in self.parameters.iter().enumerate() {
            let bound = match name_of(parameter) {
                Some(name) => bind_name(statement, name, parameter),
                None if own.contains(&position) => statement.bind(position - own.start + 1, parameter.value.as_ref()),
                None => Ok(()),
            };
            bound.map_err(BindError::Sqlite)?;
        }
        self.consumed = own.end.min(self.parameters.len());
        Ok(())
    }

    fn names_suffice(&self, statement: &Statement) -> bool {
        (1..=statement.parameter_count()).all(|index| {
            let wanted = statement.parameter_name(index).and_then(|n| n.get(1..));
            wanted.is_some_and(|wanted| self.parameters.iter().any(|p| name_of(p) == Some(wanted)))
        })
    }
}

/// The name, where there is one: an empty name counts as none.
fn name_of(parameter: &Parameter) -> Option<&str> {
    parameter.name.as_deref().filter(|name| !name.is_empty())
}

/// Binds `:name`, `@name` and `$name`, wherever present. A name that matches nothing is ignored.
fn bind_name(statement: &mut Statement, name: &str, parameter: &Parameter) -> Result<(), Error> {
    for index in 1..=statement.parameter_count() {
        let matches =
            statement.parameter_name(index).is_some_and(|n| n.starts_with([':', '@', '$']) && n.get(1..) == Some(name));
        if matches {
            statement.bind(index, parameter.value.as_ref())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Value;
    use crate::db::sqlite::{Access, Connection, Step};
    use std::path::Path;

    fn positional(value: i64) -> Parameter {
        Parameter { name: None, value: Value::Integer(value) }
    }

    fn named(name: &str, value: i64) -> Parameter {
        Parameter { name: Some(name.to_owned()), value: Value::Integer(value) }
    }

    /// Runs every statement of `sql` and gives the values of all rows.
    fn run(sql: &str, parameters: &[Parameter]) -> Result<Vec<Option<i64>>, String> {
        let connection = Connection::open(Path::new(":memory:"), Access::ReadWrite, None).unwrap();
        let mut binder = Binder::new(parameters)?;
        let (mut rest, mut values) = (sql, Vec::new());
        while let (Some(mut statement), used) = connection.prepare(rest).unwrap() {
            binder.bind(&mut statement).map_err(|e| format!("{e:?}"))?;
            while statement.step().unwrap() == Step::Row {
                values.extend((0..statement.column_count()).map(|i| statement.column_integer(i)));
            }
            rest = &rest[used..];
        }
        Ok(values)
    }

    #[test]
    fn positions_and_names_follow_the_specification() {
        assert_eq!(run("SELECT ?2, ?1", &[positional(1), positional(2)]), Ok(vec![Some(2), Some(1)]));
        assert_eq!(run("SELECT ?1, ?1", &[positional(7)]), Ok(vec![Some(7), Some(7)]));
        assert_eq!(run("SELECT :a, $b", &[named("b", 2), named("a", 1)]), Ok(vec![Some(1), Some(2)]));
        assert_eq!(run("SELECT :a, :b", &[named("a", 1), named("x", 2)]), Ok(vec![Some(1), None]));
        assert_eq!(run("SELECT ?, :b", &[named("b", 5), positional(6)]), Ok(vec![None, Some(6)]));
        assert_eq!(run("SELECT :a", &[positional(1), positional(2)]), Ok(vec![Some(1)]));
        assert_eq!(run("SELECT ?, ?", &[named("", 1), positional(2)]), Ok(vec![Some(1), Some(2)]));
        assert_eq!(run("SELECT :größe", &[named("größe", 3)]), Ok(vec![Some(3)]));
    }

    #[test]
    fn too_few_values_are_an_error_also_when_there_are_none() {
        let text = |w, g| format!("Client(\"not enough args to execute query: want {w} got {g}\")");
        assert_eq!(run("SELECT ?", &[]), Err(text(1, 0)));
        assert_eq!(run("SELECT ?3", &[positional(1), positional(2)]), Err(text(3, 2)));
        assert_eq!(run("SELECT :a, :b", &[named("a", 1)]), Err(text(2, 1)));
        assert_eq!(run("SELECT ?; SELECT ?", &[positional(1)]), Err(text(1, 0)));
    }

    #[test]
    fn names_begin_with_a_letter() {
        let text = "name \":a\" does not begin with a letter".to_owned();
        assert_eq!(run("SELECT :a", &[named(":a", 1)]), Err(text));
        assert!(run("SELECT 1", &[named("_a", 1)]).is_err());
    }

    #[test]
    fn statements_of_a_string_consume_values_from_the_left_and_share_names() {
        assert_eq!(run("SELECT ?; SELECT ?", &[positional(1), positional(2)]), Ok(vec![Some(1), Some(2)]));
        assert_eq!(run("SELECT :a; SELECT :a", &[named("a", 4)]), Ok(vec![Some(4), Some(4)]));
    }
}
