// Where the app begins.
import { CSPProvider } from "@base-ui/react/csp-provider";
import { QueryCache, QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { asProblem } from "./api/problem";
import { meQuery } from "./api/queries";
import { retryPassing } from "./parts/Shell";
import { router } from "./router";
import "./styles.css";

const queries: QueryClient = new QueryClient({
  defaultOptions: { queries: { retry: retryPassing, refetchOnWindowFocus: true, staleTime: 2_000 } },
  queryCache: new QueryCache({
    // A session that ended elsewhere shows as the sign-in page at once, wherever one is.
    onError: (error, query) => {
      if (asProblem(error).signedOut && query.queryKey[0] !== "me") queries.resetQueries(meQuery);
    },
  }),
});

const root = document.getElementById("root");
if (root === null) throw new Error("the page has no element `root`; index.html must hold one");

createRoot(root).render(
  <StrictMode>
    {/* The service's CSP allows no `<style>` elements. */}
    <CSPProvider disableStyleElements>
      <QueryClientProvider client={queries}>
        <RouterProvider router={router} />
      </QueryClientProvider>
    </CSPProvider>
  </StrictMode>,
);
