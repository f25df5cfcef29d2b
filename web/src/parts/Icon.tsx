// The app's few icons: strokes on a grid of 24, in the colour of the text beside them. Never the only carrier of meaning.
const PATHS = {
  ask: "M9.1 9a3 3 0 1 1 4.4 2.6c-.9.5-1.5 1.2-1.5 2.4M12 17.5v.01M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0Z",
  arrowDown: "M12 5v14M6 13l6 6 6-6",
  branch: "M7 4v10M7 20a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM17 10a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM17 10c0 4-4 5-8 6",
  check: "M5 12.5l4.5 4.5L19 7.5",
  chevron: "M9 6l6 6-6 6",
  clock: "M12 7v5l3 2M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0Z",
  code: "M8 7l-5 5 5 5M16 7l5 5-5 5",
  copy: "M9 9h10v11H9zM5 15V4h10",
  cross: "M6 6l12 12M18 6L6 18",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  file: "M14 3H6v18h12V7zM14 3v4h4",
  key: "M12 15.5a4.5 4.5 0 1 1-9 0 4.5 4.5 0 0 1 9 0ZM10.7 12.3L20 3M16.5 6.5l3 3",
  push: "M12 20V9M7 13l5-5 5 5M5 4h14",
  running: "M12 3a9 9 0 1 0 9 9",
  stop: "M7 7h10v10H7z",
  terminal: "M4 17l6-5-6-5M12 18h8",
  warning: "M12 4l9 16H3zM12 10v4M12 17v.01",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, className = "" }: { readonly name: IconName; readonly className?: string }) {
  return (
    <svg
      viewBox="0 0 24 24"
      aria-hidden="true"
      focusable="false"
      className={`size-[1.1em] shrink-0 ${className}`}
      fill="none"
      stroke="currentColor"
      strokeWidth="2"
      strokeLinecap="round"
      strokeLinejoin="round"
    >
      <path d={PATHS[name]} />
    </svg>
  );
}
