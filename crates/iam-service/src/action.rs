//! What access policies call the things that can be done here.

macro_rules! actions {
    ($($name:ident),* $(,)?) => {
        /// Something that a policy allows or denies.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Action {
            $(
                #[doc = concat!("`eyot:", stringify!($name), "`")]
                $name,
            )*
        }

        impl Action {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its name in a policy.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => concat!("eyot:", stringify!($name)),)*
                }
            }
        }
    };
}

actions!(
    ListUsers,
    CreateUser,
    GetUser,
    DeleteUser,
    ListAccessKeys,
    CreateAccessKey,
    RotateAccessKey,
    UpdateAccessKey,
    DeleteAccessKey,
    ListUserPolicies,
    GetUserPolicy,
    PutUserPolicy,
    DeleteUserPolicy,
    ListRoles,
    CreateRole,
    GetRole,
    UpdateRole,
    DeleteRole,
    ListRolePolicies,
    GetRolePolicy,
    PutRolePolicy,
    DeleteRolePolicy,
    RevokeCredentials,
);
