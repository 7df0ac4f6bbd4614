//! Users, roles, access keys and policies over signed requests below `/_eyot/iam/`, and STS. This page is the reference
//! of the former.
//!
//! Answers are JSON. `accountId=` names another account than the server's own. Lists take `maxResults` (1 to 1000, 100
//! unless said) and `nextToken`; their answer has `nextToken` where there is more. An unknown member or parameter is a
//! ValidationException that names it.
//!
//! | request | action | what it does |
//! |---|---|---|
//! | `GET whoami` | none | who signed: `arn`, `userId`, `account`, `accessKeyId` |
//! | `GET users`, `GET roles` | `eyot:ListUsers`, `eyot:ListRoles` | `{"users": […]}`, `{"roles": […]}`, by name |
//! | `POST users` | `eyot:CreateUser` | `{"userName"}`; 201 with the user |
//! | `GET`, `DELETE users/{name}` | `eyot:GetUser`, `eyot:DeleteUser` | a user goes with its keys and policies |
//! | `GET users/{name}/keys` | `eyot:ListAccessKeys` | `{"accessKeys": […]}`, without secrets |
//! | `POST users/{name}/keys` | `eyot:CreateAccessKey` | 201 with the key and, this once, its `secretAccessKey` |
//! | `POST users/{name}/keys/{id}/rotate` | `eyot:RotateAccessKey` | the same; the old key is refused from then on |
//! | `PATCH users/{name}/keys/{id}` | `eyot:UpdateAccessKey` | `{"enabled": true or false}` |
//! | `DELETE users/{name}/keys/{id}` | `eyot:DeleteAccessKey` | |
//! | `POST roles` | `eyot:CreateRole` | `{"roleName", "trustPolicy", "maxSessionDuration", "description"}` |
//! | `GET`, `PATCH`, `DELETE roles/{name}` | `eyot:GetRole`, `eyot:UpdateRole`, `eyot:DeleteRole` | PATCH takes what POST takes but the name |
//! | `GET users/{name}/policies` | `eyot:ListUserPolicies` | `{"policies": [names]}` |
//! | `GET`, `PUT`, `DELETE users/{name}/policies/{policy}` | `eyot:GetUserPolicy`, `eyot:PutUserPolicy`, `eyot:DeleteUserPolicy` | the document itself is the body |
//! | the same of `roles/{name}` | `eyot:ListRolePolicies`, `eyot:GetRolePolicy`, … | |
//! | `POST revocations` | `eyot:RevokeCredentials` | `{"accessKeyId"}` or `{"roleArn", "sessionName"}` |
//!
//! Actions are on the ARN of the user or the role, `arn:aws:iam::ACCOUNT:user/NAME`; lists on `…:user/*`, revocations on
//! the role or on `*`.
//!
//! Read in this order: `route` (which request is which action), `service`, `document` (bodies), then [`sts`].
//!
//! Invariant: a secret is in the one answer of the request that made it, and nowhere else.

mod action;
mod document;
mod federation;
mod route;
mod service;
pub mod sts;
#[cfg(test)]
mod tests;

pub use action::Action;
pub use federation::{Federation, Identity, NoFederation, TokenFault};
pub use service::IamService;
