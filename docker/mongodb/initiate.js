// Makes the one server a replica set, as Tidings needs it, and makes the user that Tidings has.
// Runs to its end each time the system is started; what is there already is left as it is.
// For mongosh: mongosh --nodb initiate.js, with the passwords in /run/secrets.
const fs = require('fs');

const directory = process.env.SECRETS ?? '/run/secrets';
const host = process.env.HOST ?? 'mongodb:27017';
const secret = (name) => fs.readFileSync(`${directory}/${name}`, 'utf8').trim();

const root = encodeURIComponent(secret('mongodb_root_password'));
const connection = new Mongo(`mongodb://root:${root}@${host}/admin?directConnection=true`);
const admin = connection.getDB('admin');

const notYetInitialized = 94;
try {
  admin.runCommand({ replSetGetStatus: 1 });
} catch (error) {
  if (error.code !== notYetInitialized) {
    throw error;
  }
  admin.runCommand({ replSetInitiate: { _id: 'rs0', members: [{ _id: 0, host }] } });
  print('initiated the replica set');
}

const deadline = Date.now() + 60_000;
while (!admin.hello().isWritablePrimary) {
  if (Date.now() > deadline) {
    throw new Error('the replica set has no primary after 60 s');
  }
  sleep(200);
}

const tidings = connection.getDB('tidings');
if (tidings.getUser('tidings') === null) {
  const pwd = secret('mongodb_password');
  tidings.createUser({ user: 'tidings', pwd, roles: ['readWrite'] });
  print('made the user tidings');
}
