//! The problem file as written: field names, defaults and their schema.

use std::fmt;
use std::marker::PhantomData;

use rco_core::BudgetKind;
use schemars::{JsonSchema, Schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Deserialize as DeserializeDerive, Serialize};

use super::scalar::{Integer, Limit, Real};

/// The value of the `format` field.
pub const FORMAT: &str = "rco-problem";
/// The only version of the format so far.
pub const VERSION: u64 = 1;

/// A problem file: choose one option for each group, within the budgets, with the
/// smallest loss.
#[derive(Debug, Clone, PartialEq, Serialize, DeserializeDerive, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "rco problem", extend("$id" = "rco-problem-1.schema.json"))]
pub struct ProblemFile {
    /// Where this schema lies, for editors; ignored.
    #[serde(rename = "$schema", default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Always `rco-problem`.
    #[schemars(extend("const" = FORMAT))]
    pub format: String,
    /// Always 1.
    #[schemars(extend("const" = VERSION))]
    pub version: Integer,
    /// A short name of the problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the problem is and where its numbers come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// One budget for each resource. May be left out if `--budget` gives them.
    #[serde(default, deserialize_with = "objects")]
    pub budgets: Vec<BudgetEntry>,
    /// The things to decide on; at least one.
    #[serde(deserialize_with = "objects")]
    #[schemars(length(min = 1))]
    pub groups: Vec<GroupEntry>,
    /// Lists of groups that must choose alike. They need equal option names in equal order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ties: Vec<Vec<String>>,
    /// Choices that are settled: group name to option name.
    #[serde(default, skip_serializing_if = "Entries::is_empty")]
    pub fixed: Entries<String>,
    /// Interactions: what two choices together add to the loss.
    #[serde(default, deserialize_with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub pairs: Vec<PairEntry>,
}

/// The limit of one resource.
#[derive(Debug, Clone, PartialEq, Serialize, DeserializeDerive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetEntry {
    /// Name of the resource, such as `bytes`.
    pub resource: String,
    /// The limit: a whole number, or a text with a unit such as `"5.9GB"` or `"512KiB"`.
    pub limit: Limit,
    /// `at_most` (the default) or `exactly`.
    #[serde(default)]
    pub kind: BudgetEntryKind,
}

/// Upper limit or equality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, DeserializeDerive, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum BudgetEntryKind {
    /// The total cost must not exceed the limit.
    #[default]
    AtMost,
    /// The total cost must equal the limit.
    Exactly,
}

impl From<BudgetEntryKind> for BudgetKind {
    fn from(kind: BudgetEntryKind) -> Self {
        match kind {
            BudgetEntryKind::AtMost => Self::AtMost,
            BudgetEntryKind::Exactly => Self::Exactly,
        }
    }
}

/// A thing to decide on.
#[derive(Debug, Clone, PartialEq, Serialize, DeserializeDerive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupEntry {
    /// Name, unique within the problem.
    pub name: String,
    /// Number of weights; 1 if left out. Only the retraction per weight uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Integer>,
    /// The ways to store or drop the group; at least one.
    #[serde(deserialize_with = "objects")]
    #[schemars(length(min = 1))]
    pub options: Vec<OptionEntry>,
}

/// One way to store or drop a group: `cost` with one budget, `costs` with several.
#[derive(Debug, Clone, PartialEq, Serialize, DeserializeDerive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OptionEntry {
    /// Name, unique within the group.
    pub name: String,
    /// The cost, if there is one budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Integer>,
    /// The cost in each resource, by the name of the resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub costs: Option<Entries<Integer>>,
    /// What this choice adds to the loss; smaller is better.
    pub loss: Real,
    /// The same on held-out data, which only selects and reports. Either every option
    /// has one or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heldout_loss: Option<Real>,
}

/// What two choices together add to the loss, beyond the sum of their own losses.
#[derive(Debug, Clone, PartialEq, Serialize, DeserializeDerive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PairEntry {
    /// Two different groups.
    #[serde(deserialize_with = "two_names")]
    pub groups: [String; 2],
    /// An option of the first and one of the second.
    #[serde(deserialize_with = "two_names")]
    pub options: [String; 2],
    /// What is added to the loss if both are chosen.
    pub loss: Real,
    /// The same on held-out data; `loss` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heldout_loss: Option<Real>,
}

/// An object with free keys, in file order, with repeated keys kept (and refused later).
#[derive(Debug, Clone, PartialEq)]
pub struct Entries<T>(pub Vec<(String, T)>);

impl<T> Entries<T> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Serialize> Serialize for Entries<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for EntriesVisitor<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Entries<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("EntriesOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        schemars::json_schema!({"type": "object", "additionalProperties": value})
    }
}

/// A struct that is read from an object only. Serde's derive also takes an array of
/// the fields in order, which the schema does not allow.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

fn objects<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let objects = Vec::<Object<T>>::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|object| object.0).collect())
}

/// Serde takes a longer list for the end of the pair and reports what follows instead.
fn two_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[String; 2], D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    names.try_into().map_err(|names: Vec<String>| {
        serde::de::Error::invalid_length(names.len(), &"a list of two names")
    })
}

/// The JSON schema of problem files, as committed in `schemas/problem.schema.json`.
pub fn schema() -> Schema {
    schemars::schema_for!(ProblemFile)
}
