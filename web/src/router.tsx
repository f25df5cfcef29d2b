// Which address shows which page. What a page shows beyond its path is in its search parameters.
import { createRootRoute, createRoute, createRouter, lazyRouteComponent } from "@tanstack/react-router";
import { Home } from "./pages/Home";
import { Broken, NotFound } from "./pages/Lost";
import { SignIn } from "./pages/SignIn";
import { Shell } from "./parts/Shell";
import { readPrefill } from "./tasks/form";
import { readView } from "./tasks/view";

const root = createRootRoute({ component: Shell, notFoundComponent: NotFound, errorComponent: Broken });

const home = createRoute({
  getParentRoute: () => root,
  path: "/",
  component: Home,
  validateSearch: readPrefill,
});

const signIn = createRoute({ getParentRoute: () => root, path: "/sign-in", component: SignIn });

const task = createRoute({
  getParentRoute: () => root,
  path: "/tasks/$id",
  component: lazyRouteComponent(() => import("./pages/Task"), "TaskPage"),
  validateSearch: readView,
});

const environments = createRoute({
  getParentRoute: () => root,
  path: "/environments",
  component: lazyRouteComponent(() => import("./pages/Environments"), "EnvironmentsPage"),
});

const environment = createRoute({
  getParentRoute: () => root,
  path: "/environments/$name",
  component: lazyRouteComponent(() => import("./pages/Environment"), "EnvironmentPage"),
});

export const router = createRouter({
  routeTree: root.addChildren([home, signIn, task, environments, environment]),
  defaultErrorComponent: Broken,
  // Every parameter is text: the router's own reading would take a prompt of digits for a number.
  parseSearch: (search) => Object.fromEntries(new URLSearchParams(search)),
  stringifySearch: (search) => {
    const set = Object.entries(search).filter(([, value]) => value !== undefined);
    return set.length === 0 ? "" : `?${new URLSearchParams(set)}`;
  },
  defaultPreload: "intent",
  scrollRestoration: true,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
