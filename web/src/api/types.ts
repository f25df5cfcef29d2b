// The wire's types under the names the app uses. They come from the service's OpenAPI document, never from here.
import type { components } from "./schema";

type Schemas = components["schemas"];

export type Artifact = Schemas["Artifact"];
export type Attachment = Schemas["Attachment"];
export type Attempt = Schemas["Attempt"];
export type AttemptResult = Schemas["AttemptResult"];
export type AttemptState = Schemas["AttemptState"];
export type Budget = Schemas["Budget"];
export type Citations = Schemas["Citations"];
export type CreateTask = Schemas["CreateTask"];
export type CreateTurn = Schemas["CreateTurn"];
export type EditEnvironment = Schemas["EditEnvironment"];
export type Environment = Schemas["Environment"];
export type Limits = Schemas["Limits"];
export type Me = Schemas["Me"];
export type FailingCitation = Schemas["FailingCitation"];
export type Mode = Schemas["Mode"];
export type Model = Schemas["Model"];
export type NetworkPolicy = Schemas["NetworkPolicy"];
export type Patch = Schemas["Patch"];
export type PatchFile = Schemas["PatchFile"];
export type Publication = Schemas["Publication"];
export type Task = Schemas["Task"];
export type TaskPage = Schemas["TaskPage"];
export type TaskState = Schemas["TaskState"];
export type TaskSummary = Schemas["TaskSummary"];
export type Turn = Schemas["Turn"];
