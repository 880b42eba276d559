/** Files that are embedded in the binary: importing one with `type: "file"` gives the path to read it by. */
declare module "swagger-ui-dist/swagger-ui-bundle.js" {
  const path: string;
  export default path;
}
declare module "*.css" {
  const path: string;
  export default path;
}
