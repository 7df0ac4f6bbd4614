//! What access policies call the things that can be done here.

/// Something that a policy allows or denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// `GET sessions`.
    ListSessions,
    /// `GET sessions/{id}`.
    GetSession,
    /// `POST sessions/{id}/stop`, and `POST sessions/stop` for each of its sessions.
    StopSession,
    /// `GET sessions/{id}/logs`.
    GetSessionLogs,
    /// `GET usage`.
    GetUsage,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::ListSessions,
        Self::GetSession,
        Self::StopSession,
        Self::GetSessionLogs,
        Self::GetUsage,
    ];

    /// Its name in a policy.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ListSessions => "eyot:ListSessions",
            Self::GetSession => "eyot:GetSession",
            Self::StopSession => "eyot:StopSession",
            Self::GetSessionLogs => "eyot:GetSessionLogs",
            Self::GetUsage => "eyot:GetUsage",
        }
    }
}
