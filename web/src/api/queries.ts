// What the app asks the service, as queries and mutations: the one place that names the API's paths.
import { infiniteQueryOptions, queryOptions } from "@tanstack/react-query";
import { API, bodyOf, client, textOf } from "./client";
import type { CreateTask, CreateTurn, EditEnvironment } from "./types";

const PAGE = 30;

export const meQuery = queryOptions({
  queryKey: ["me"],
  // Null when nobody is signed in, which is no error to whoever comes for the first time.
  queryFn: async () => (await bodyOf(client.GET("/sessions/current"))) ?? null,
  staleTime: 60_000,
});

export const modelsQuery = queryOptions({
  queryKey: ["models"],
  queryFn: () => bodyOf(client.GET("/models")),
  staleTime: 60_000,
});

export const agentsQuery = queryOptions({
  queryKey: ["agents"],
  queryFn: () => bodyOf(client.GET("/agents")),
  staleTime: 60_000,
});

export const budgetsQuery = queryOptions({
  queryKey: ["budgets"],
  queryFn: () => bodyOf(client.GET("/budgets")),
  staleTime: 30_000,
});

export const repositoriesQuery = queryOptions({
  queryKey: ["repositories"],
  queryFn: () => bodyOf(client.GET("/repositories")),
  staleTime: 30_000,
});

export const environmentsQuery = queryOptions({
  queryKey: ["environments"],
  queryFn: () => bodyOf(client.GET("/environments")),
  staleTime: 30_000,
});

export const environmentQuery = (name: string) =>
  queryOptions({
    queryKey: ["environments", name],
    queryFn: () => bodyOf(client.GET("/environments/{name}", { params: { path: { name } } })),
  });

export const tasksQuery = infiniteQueryOptions({
  queryKey: ["tasks"],
  initialPageParam: undefined as string | undefined,
  queryFn: ({ pageParam }) =>
    bodyOf(
      client.GET("/tasks", {
        params: { query: { limit: PAGE, ...(pageParam === undefined ? {} : { before: pageParam }) } },
      }),
    ),
  getNextPageParam: (page) => page.next ?? undefined,
});

export const taskQuery = (id: string) =>
  queryOptions({
    queryKey: ["task", id],
    queryFn: () => bodyOf(client.GET("/tasks/{id}", { params: { path: { id } } })),
  });

/** Where an attempt's patch is, for downloads too. */
export const patchPath = (attempt: string) => `${API}/attempts/${encodeURIComponent(attempt)}/patch`;

export const patchQuery = (attempt: string) =>
  queryOptions({
    queryKey: ["patch", attempt],
    queryFn: ({ signal }) => textOf(patchPath(attempt), signal),
    staleTime: Number.POSITIVE_INFINITY,
  });

/** Where a file is that an attempt's agent attached. */
export const artifactPath = (attempt: string, name: string) =>
  `${API}/attempts/${encodeURIComponent(attempt)}/artifacts/${encodeURIComponent(name)}`;

/** The files an attempt's agent attached, as they are after so many of them were. */
export const artifactsQuery = (attempt: string, attached: number) =>
  queryOptions({
    queryKey: ["artifacts", attempt, attached],
    queryFn: () => bodyOf(client.GET("/attempts/{id}/artifacts", { params: { path: { id: attempt } } })),
  });

/** Allows the agent one more host. */
export const allowDomain = (name: string, domain: string) =>
  bodyOf(client.POST("/environments/{name}/domains", { params: { path: { name } }, body: { domain } }));

export const editEnvironment = (name: string, body: EditEnvironment) =>
  bodyOf(client.PATCH("/environments/{name}", { params: { path: { name } }, body }));

export const resetCache = (name: string) =>
  bodyOf(client.POST("/environments/{name}/reset-cache", { params: { path: { name } } }));

export const createSession = (ownerLink: string) =>
  bodyOf(client.POST("/sessions", { body: { owner_link: ownerLink } }));

export const endSession = () => bodyOf(client.DELETE("/sessions/current"));

export const createTask = (body: CreateTask) => bodyOf(client.POST("/tasks", { body }));

export const createTurn = (id: string, body: CreateTurn) =>
  bodyOf(client.POST("/tasks/{id}/turns", { params: { path: { id } }, body }));

export const cancelAttempt = (id: string) =>
  bodyOf(client.POST("/attempts/{id}/cancel", { params: { path: { id } } }));

/** Where a file is that a person gave. */
export const attachmentPath = (id: string) => `${API}/attachments/${encodeURIComponent(id)}`;

/** Uploads a file that is to go along with a prompt. */
export const uploadAttachment = (file: File) =>
  bodyOf(
    client.POST("/attachments", {
      params: { query: { name: file.name } },
      // The file as it is: the description can only say that it is bytes.
      body: file as unknown as number[],
      bodySerializer: (body) => body as unknown as File,
      headers: { "content-type": "application/octet-stream" },
    }),
  );

/** Says something to an attempt while it works. */
export const sendMessage = (id: string, text: string) =>
  bodyOf(client.POST("/attempts/{id}/messages", { params: { path: { id } }, body: { text } }));

/** Makes an attempt again that ended without a result. */
export const retryAttempt = (id: string, resume: boolean) =>
  bodyOf(client.POST("/attempts/{id}/retry", { params: { path: { id } }, body: { resume } }));

export const createPublication = (id: string, body: { branch: string; message: string }) =>
  bodyOf(client.POST("/attempts/{id}/publications", { params: { path: { id } }, body }));

/** The stream that says which task's log has grown. */
export const CHANGES_PATH = `${API}/tasks/changes`;

/** A task's log from behind one of its events. */
export const eventsPath = (task: string, after: number) =>
  `${API}/tasks/${encodeURIComponent(task)}/events?after=${after}`;
