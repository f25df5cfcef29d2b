// How the app is built: hashed assets under `assets/`, nothing inline (the service's CSP forbids it), no source maps.
import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

export default defineConfig({
  plugins: [react(), tailwindcss()],
  build: {
    outDir: "dist",
    sourcemap: false,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: {
    host: "127.0.0.1",
    proxy: { "/api": "http://127.0.0.1:7070" },
  },
  test: { include: ["src/**/*.test.ts"], environment: "node" },
});
