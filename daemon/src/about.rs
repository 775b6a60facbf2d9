//! The objects of the file that a line of the log is about.

/// Their names: fields of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// The filter.
    pub filter: Option<String>,
    /// The endpoint.
    pub endpoint: Option<String>,
    /// The interface.
    pub interface: Option<String>,
}

impl About {
    /// A filter.
    pub fn filter(name: &str) -> Self {
        Self {
            filter: Some(name.to_owned()),
            ..Self::default()
        }
    }

    /// An endpoint.
    pub fn endpoint(name: &str) -> Self {
        Self {
            endpoint: Some(name.to_owned()),
            ..Self::default()
        }
    }

    /// An interface.
    pub fn interface(name: &str) -> Self {
        Self {
            interface: Some(name.to_owned()),
            ..Self::default()
        }
    }
}
